"""The compiled pipeline: written, and read back to see that it says what it should."""

import tempfile
from pathlib import Path

import yaml
from kfp import compiler

STEPS = ("preprocess", "pretrain-damsm", "train-generator", "evaluate", "export-samples", "publish")


def write(pipeline, out: Path) -> list[str]:
    """Compile a pipeline to YAML and return its tasks in the order they can run in.

    The file is checked before it takes its place at `out`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".attngan-") as scratch:
        draft = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(draft))
        tasks = ordered_tasks(read(draft))
        assert sorted(tasks) == sorted(STEPS), f"the compiled pipeline has the tasks {tasks}"
        draft.replace(out)
    return tasks


def read(path: Path) -> dict:
    """Return the pipeline specification in a compiled file."""
    return next(iter(yaml.safe_load_all(path.read_text(encoding="utf-8"))))


def edges(specification: dict) -> dict[str, set[str]]:
    """Return, for each task, the tasks whose outputs it takes."""
    tasks = specification["root"]["dag"]["tasks"]
    return {name: _producers(task) for name, task in tasks.items()}


def ordered_tasks(specification: dict) -> list[str]:
    """Return the tasks, each after those it takes something from."""
    waiting = edges(specification)
    order: list[str] = []
    while waiting:
        ready = sorted(name for name, producers in waiting.items() if producers <= set(order))
        assert ready, f"the compiled pipeline goes in a circle: {waiting}"
        order += ready
        waiting = {name: producers for name, producers in waiting.items() if name not in ready}
    return order


def _producers(task: dict) -> set[str]:
    inputs = task.get("inputs", {})
    sources = [*inputs.get("artifacts", {}).values(), *inputs.get("parameters", {}).values()]
    outputs = [source.get("taskOutputArtifact") or source.get("taskOutputParameter") for source in sources]
    return {output["producerTask"] for output in outputs if output}

"""The compiled pipeline: written, and read back to see that it says what it should."""

import tempfile
from pathlib import Path

import yaml
from kfp import compiler

STEPS = ("preprocess", "pretrain-damsm", "train-generator", "evaluate", "export-samples", "publish")
SWEEP = ("detect-changes", "preprocess", "sweep-encoders", "sweep-member", "sweep-table", "publish")


def write(pipeline, out: Path, *, caching: bool = True, parallel: int = 1) -> list[str]:
    """Compile a pipeline to YAML and return its tasks in the order they can run in.

    The file is checked before it takes its place at `out`.

    Args:
        pipeline: a pipeline of kfp.
        out: the file.
        caching: False lets no task take its outputs from an earlier run.
        parallel: how many members of a sweep train at once; kfp takes no parameter of the pipeline for it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".attngan-") as scratch:
        draft = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(draft))
        if not caching:
            _forbid_caching(draft)
        if parallel > 1:
            _limit(draft, parallel)
        order = _order(read(draft)[0])
        draft.replace(out)
    return order


def _order(specification: dict) -> list[str]:
    """Return the tasks of the pipeline, or of a sweep, in the order they can run in."""
    dags = [specification["root"], *specification["components"].values()]
    names = {name for dag in dags for name in dag.get("dag", {}).get("tasks", {})}
    plain = {name for name in names if not name.startswith(("condition-", "for-loop-"))}
    if plain == set(SWEEP):
        return list(SWEEP)  # in loops, which are dags of their own
    steps = ordered_tasks(six_steps(specification))
    assert sorted(steps) == sorted(STEPS), f"the compiled pipeline has the steps {steps}"
    return [*(plain - set(steps)), *steps]


def read(path: Path) -> list[dict]:
    """Return the pipeline specification in a compiled file, and its part for Kubernetes."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def six_steps(specification: dict) -> dict:
    """Return the tasks of the steps, wherever below conditions they are."""
    dags = [specification["root"], *specification["components"].values()]
    return next(dag["dag"]["tasks"] for dag in dags if STEPS[0] in dag.get("dag", {}).get("tasks", {}))


def _forbid_caching(path: Path) -> None:
    """Let no task of a compiled file be cached; kfp's own switch does not reach below conditions."""
    documents = read(path)
    for level in [documents[0]["root"], *documents[0]["components"].values()]:
        for task in level.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")


def _limit(path: Path, parallel: int) -> None:
    """Say in a compiled file how many iterations of a loop run at once."""
    documents = read(path)
    for task in documents[0]["root"]["dag"]["tasks"].values():
        if "iteratorPolicy" in task:
            task["iteratorPolicy"]["parallelismLimit"] = parallel
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")


def edges(tasks: dict) -> dict[str, set[str]]:
    """Return, for each task, the tasks whose outputs it takes."""
    return {name: _producers(task) for name, task in tasks.items()}


def ordered_tasks(tasks: dict) -> list[str]:
    """Return the tasks, each after those it takes something from."""
    waiting = edges(tasks)
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

"""The compiled pipeline: written, and read back to see that it says what it should."""

import tempfile
from pathlib import Path

import yaml
from kfp import compiler

from attngan.errors import InputError
from attngan.storage.run_ending import STEPS, SWEEP

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it


def write(pipeline, out: Path, *, caching: bool = True, parallel: int = 1) -> list[str]:
    """Compile a pipeline to YAML and return its tasks in the order they can run in.

    The file is checked before it takes its place at `out`.

    Args:
        pipeline: a pipeline of kfp.
        out: the file.
        caching: False lets no task take its outputs from an earlier run.
        parallel: how many members of a sweep train at once; kfp takes no parameter of the pipeline for it.

    Raises:
        InputError: `out` is a folder.
    """
    if out.is_dir():
        raise InputError(f"{out}: expected the name of a file, found a folder; name one in it, such as pipeline.yaml.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".attngan-") as scratch:
        draft = Path(scratch) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(draft))
        documents = read(draft)
        if not caching or parallel > 1:
            _set(documents[0], caching=caching, parallel=parallel)
            draft.write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
        order = _order(documents[0])
        draft.replace(out)
    return order


def _set(specification: dict, *, caching: bool, parallel: int) -> None:
    """Cache no task, or say how many iterations of a loop run at once; kfp's own switches do not reach all of them."""
    for task in (task for tasks in _levels(specification) for task in tasks.values()):
        if not caching:
            task["cachingOptions"] = {}
        if parallel > 1 and "iteratorPolicy" in task:
            task["iteratorPolicy"]["parallelismLimit"] = parallel


def _order(specification: dict) -> list[str]:
    """Return the tasks of the pipeline, or of a sweep, in the order they can run in."""
    names = {name for tasks in _levels(specification) for name in tasks}
    if names >= set(SWEEP):
        return list(SWEEP)  # those in loops are on levels of their own
    steps = ordered_tasks(six_steps(specification))
    assert sorted(steps) == sorted(STEPS), f"the compiled pipeline has the steps {steps}"
    return [*before(specification), *steps]


def read(path: Path) -> list[dict]:
    """Return the pipeline specification in a compiled file, and its part for Kubernetes."""
    return list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=_LOADER))


def six_steps(specification: dict) -> dict:
    """Return the tasks of the steps, wherever below conditions they are."""
    return next(tasks for tasks in _levels(specification) if STEPS[0] in tasks)


def before(specification: dict) -> list[str]:
    """Return the tasks that stand beside the condition of the steps; an exit handler, and its task, stand above it."""
    levels = (tasks for tasks in _levels(specification) if any(name.startswith("condition-") for name in tasks))
    return [name for name in next(levels, {}) if not name.startswith("condition-")]


def _levels(specification: dict) -> list[dict]:
    """Return the tasks of every level: of the pipeline, and below conditions and exit handlers."""
    dags = [specification["root"], *specification["components"].values()]
    return [dag["dag"]["tasks"] for dag in dags if "dag" in dag]


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

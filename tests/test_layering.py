"""Who may import whom: arrows point down only."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Of attngan, from top to bottom: each room imports itself and what stands below it.
ROOMS = (
    *(
        "__main__",
        "cli",
        "steps",
        "training",
        "evaluation",
        "serving",
        "inference",
        "pages",
        "data",
        "storage",
        "runtime",
    ),
    *("config", "losses", "metrics", "models", "seeding", "errors"),
)
MOST_AT_THE_TOP = 18  # names a newcomer reads first
FILES = sorted([*ROOT.glob("attngan/**/*.py"), *ROOT.glob("components/**/*.py"), ROOT / "pipeline.py"])


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imported(path: Path) -> frozenset[str]:
    """Return the full names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def room_of(path: Path) -> str:
    """Return the room of a file of attngan, or the file's own name at the top."""
    return path.relative_to(ROOT / "attngan").parts[0].removesuffix(".py")


def rooms_of(path: Path) -> set[str]:
    """Return the rooms of attngan that a file imports something of."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("attngan.")} & set(ROOMS)


def below_components() -> list[Path]:
    return [path for path in FILES if path.parent.parent == ROOT / "components"]


def in_attngan() -> list[Path]:
    return [
        path for path in FILES if path.is_relative_to(ROOT / "attngan") and path != ROOT / "attngan" / "__init__.py"
    ]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_only_the_wiring_imports_kfp(path):
    if not relative(path).startswith("components/") and path.name != "pipeline.py":
        assert not {name for name in imported(path) if name.split(".")[0] == "kfp"}


@pytest.mark.parametrize("path", [path for path in below_components() if path.parent.name == "local"], ids=relative)
def test_on_this_machine_only_what_runs_the_whole_pipeline_imports_kfp(path):
    if path.stem not in ("run", "processes", "containers"):
        assert not {name for name in imported(path) if name.split(".")[0] == "kfp"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_only_one_file_imports_the_client_of_a_cloud(path):
    clients = {"google": "google_storage.py", "boto3": "s3_storage.py", "botocore": "s3_storage.py"}
    for package, home in clients.items():
        assert path.name == home or package not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_only_a_few_files_import_the_clients_of_kubernetes(path):
    if path.name not in ("train_job.py", "train_job_cluster.py", "kubernetes_access.py", "kfp_launcher.py"):
        names = {name.split(".")[0] for name in imported(path)}
        assert not names & {"kubernetes", "kubeflow", "kubeflow_trainer_api"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_only_one_file_imports_the_client_of_a_tracker(path):
    for package, home in {"mlflow": "mlflow_run.py", "wandb": "wandb_run.py"}.items():
        assert path.name == home or package not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_only_config_reads_yaml(path):
    if path.name not in ("yaml_text.py", "compiled.py"):  # the other reads back what kfp compiled
        assert "yaml" not in imported(path)


@pytest.mark.parametrize("path", in_attngan(), ids=relative)
def test_rooms_import_downwards_only(path):
    below = ROOMS[ROOMS.index(room_of(path)) :]
    assert rooms_of(path) <= set(below)


@pytest.mark.parametrize("path", sorted((ROOT / "attngan" / "steps").glob("*.py")), ids=relative)
def test_no_step_imports_another(path):
    if path.name not in ("train.py", "sweep.py"):  # which take all of them
        assert not {name for name in imported(path) if name.startswith("attngan.steps.")}


def test_no_two_files_need_each_other():
    """A package's own file is left out: it hands on what the others have."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES if path.stem != "__init__"}
    graph = {name: imported(path) & names.keys() for name, path in names.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle


def test_every_room_is_listed_and_says_what_it_is_for():
    names = [entry for entry in (ROOT / "attngan").iterdir() if entry.name != "__pycache__"]
    assert {entry.stem for entry in names} == {*ROOMS, "__init__"} and len(names) <= MOST_AT_THE_TOP
    for folder in {path.parent for path in in_attngan()} - {ROOT / "attngan"}:
        assert len(ast.get_docstring(parsed(folder / "__init__.py"))) > 40, folder


@pytest.mark.parametrize("path", [path for path in FILES if path.parent == ROOT / "components"], ids=relative)
def test_a_component_calls_one_step_with_config_and_services(path):
    assert rooms_of(path) <= {"steps", "training", "storage", "runtime", "config", "errors"}
    steps = {name.split(".")[2] for name in imported(path) if name.startswith("attngan.steps.")}
    assert steps <= {path.stem}


@pytest.mark.parametrize("path", below_components(), ids=relative)
def test_what_runs_components_knows_services_and_the_command_line_but_no_step(path):
    assert rooms_of(path) - {"steps"} <= {"cli", "storage", "runtime", "config", "errors"}
    assert {name.split(".")[2] for name in imported(path) if name.startswith("attngan.steps.")} <= {"train", "sweep"}


@pytest.mark.parametrize("path", [path for path in FILES if relative(path).startswith("components/")], ids=relative)
def test_components_know_no_pipeline(path):
    assert "pipeline" not in imported(path)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent == ROOT / "components/cluster"], ids=relative)
def test_the_cluster_side_knows_the_compiled_pipeline_and_no_step(path):
    assert rooms_of(path) <= {"storage", "config", "runtime", "errors"}  # storage: the logs of a run's steps
    ours = {name for name in imported(path) if name.split(".")[0] in ("components", "pipeline")} - {"components"}
    assert all(name.startswith(("components.cluster", "components.compiled", "components.image")) for name in ours)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent == ROOT / "components"], ids=relative)
def test_components_run_without_the_cluster_side(path):
    assert not {name for name in imported(path) if name.startswith("components.cluster")}


@pytest.mark.parametrize("path", [path for path in FILES if "components" in path.parts or path.name == "pipeline.py"])
def test_annotations_stay_readable_for_kfp(path):
    assert "from __future__ import annotations" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            is_form = any(ast.unparse(each).startswith("dsl.pipeline(") for each in node.decorator_list)
            first = node.body[1].lineno if is_form else node.lineno  # every parameter of a pipeline has its two lines
            assert node.end_lineno - first < 60, f"{relative(path)}: {node.name}"


def test_attngan_imports_without_kfp_and_the_clients_of_clouds():
    modules = [
        name.removesuffix(".py").replace("/", ".")
        for name in map(relative, FILES)
        if name.startswith("attngan") and not name.endswith(("google_storage.py", "s3_storage.py"))
    ]
    packages = ["kfp", "google", "google.cloud", "boto3", "botocore", "kubernetes", "mlflow", "wandb"]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({packages}))\n"
    lines = "\n".join(f"import {name.removesuffix('.__init__')}" for name in modules if not name.endswith("__main__"))
    subprocess.run([sys.executable, "-c", blocked + lines], check=True, cwd=ROOT)

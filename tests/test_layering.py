"""Who may import whom: arrows point down only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STEPS = {"detect_changes", "preprocess", "pretrain_damsm", "train_generator", "evaluate", "export_samples", "publish"}
FOLDERS = {"data", "models", "losses", "metrics"}
MAY_IMPORT = {"losses": {"models"}}  # beyond their own folder
SERVICES = {"storage", "checkpoint", "run_log", "seeding", "errors", "artifacts", "exit_status", "report", "pictures"}
SERVICES |= {"config", "config_errors", "config_text", "google_storage", "champion", "distributed", "launcher"}
SERVICES |= {"train_job", "train_job_cluster", "overlays", "stopping", "pace", "acceleration", "section"}
SERVICES |= {"gradient_average", "step_graph", "scratch", "machine", "json_text", "result_folder"}
SERVICES |= {"tensor_files", "command_group", "bounds"}
ASSEMBLIES = {
    "weights",
    "text_to_image",
    "caption_features",
    "damsm_run",
    "gan_run",
    "gan_step",
    "snapshots",
    "snapshot_figures",
    "watchdog",
    "watcher",
    "gan_watcher",
    "training_run",
    "trunk_features",
    "damsm_features",
    "damsm_progress",
    "features",
    "gallery",
    "drawing",
    "studio",
    "clip_score",
    "row_store",
    "controls",
    "evaluation_pictures",
    "evaluation_figures",
    "evaluation_colours",
    "evaluation_report",
    "bundle",
    "released",
    "feasible",
}  # parts and settings put together
FREE = {
    "errors",
    "artifacts",
    "seeding",
    "json_text",
}  # which any part may use: they know nothing of config, logs or Kubeflow
FILES = sorted([*ROOT.glob("attngan/**/*.py"), *ROOT.glob("components/**/*.py"), ROOT / "pipeline.py"])


def imported(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own(path: Path) -> set[str]:
    """Return what a file imports of attngan: "config", "models", ..., one name for each module or folder."""
    names = {name.split(".")[1] for name in imported(path) if name.startswith("attngan.")}
    known = {entry.stem for entry in (ROOT / "attngan").iterdir()}
    return names & known


def layer_files(names: set[str]) -> list[Path]:
    return [path for path in FILES if path.parent == ROOT / "attngan" and path.stem in names]


def part_files() -> list[Path]:
    return [path for path in FILES if path.parent.name in FOLDERS]


def below_components() -> list[Path]:
    return [path for path in FILES if path.parent.parent == ROOT / "components"]


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
def test_only_storage_imports_google_cloud(path):
    if path.name != "google_storage.py":
        assert not {name for name in imported(path) if name.startswith("google")}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_only_train_jobs_import_the_clients_of_kubernetes(path):
    if path.name not in ("train_job.py", "train_job_cluster.py"):
        names = {name.split(".")[0] for name in imported(path)}
        assert not names & {"kubernetes", "kubeflow", "kubeflow_trainer_api"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_only_config_text_reads_yaml(path):
    if path.name not in ("config_text.py", "compiled.py"):  # the other reads back what kfp compiled
        assert "yaml" not in imported(path)


@pytest.mark.parametrize("path", layer_files(STEPS), ids=relative)
def test_no_step_imports_another(path):
    assert not own(path) & (STEPS | {"cli", "cli_steps"})


@pytest.mark.parametrize("path", part_files(), ids=relative)
def test_parts_import_their_own_folder_and_nothing_above(path):
    folder = path.parent.name
    assert own(path) <= {folder} | MAY_IMPORT.get(folder, set()) | FREE


@pytest.mark.parametrize("path", layer_files(SERVICES), ids=relative)
def test_services_import_only_services(path):
    assert own(path) <= SERVICES


@pytest.mark.parametrize("path", layer_files(ASSEMBLIES), ids=relative)
def test_assemblies_know_no_step(path):
    assert own(path) <= SERVICES | ASSEMBLIES | FOLDERS


def test_every_module_has_a_layer():
    modules = {path.stem for path in FILES if path.parent == ROOT / "attngan"}
    assert modules == STEPS | SERVICES | ASSEMBLIES | {
        "__init__",
        "__main__",
        "cli",
        "cli_steps",
        "distributed_worker",
        "generate",
        "import_released",
        "export_onnx",
        "serve",
        "serve_connections",
        "serve_shapes",
        "serve_v2",
        "plan",
        "plan_table",
    }


@pytest.mark.parametrize("path", [path for path in FILES if path.parent == ROOT / "components"], ids=relative)
def test_a_component_calls_one_step_with_config_and_services(path):
    allowed = {path.stem, "config", "exit_status", "storage", "errors", "artifacts", "train_job", "plan"}
    assert own(path) <= allowed


@pytest.mark.parametrize("path", below_components(), ids=relative)
def test_what_runs_components_knows_services_and_the_command_line_but_no_step(path):
    assert own(path) <= SERVICES | {"cli", "cli_steps"}


@pytest.mark.parametrize("path", [path for path in FILES if relative(path).startswith("components/")], ids=relative)
def test_components_know_no_pipeline(path):
    assert "pipeline" not in imported(path)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent == ROOT / "components/cluster"], ids=relative)
def test_the_cluster_side_knows_the_compiled_pipeline_and_no_step(path):
    assert own(path) <= {"config", "exit_status", "errors"}
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
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            is_form = any(ast.unparse(each).startswith("dsl.pipeline(") for each in node.decorator_list)
            first = node.body[1].lineno if is_form else node.lineno  # every parameter of a pipeline has its two lines
            assert node.end_lineno - first < 60, f"{relative(path)}: {node.name}"


def test_attngan_imports_without_kfp_and_google_cloud():
    modules = [
        name.removesuffix(".py").replace("/", ".")
        for name in map(relative, FILES)
        if name.startswith("attngan") and name != "attngan/google_storage.py"
    ]
    blocked = "import sys; sys.modules.update(dict.fromkeys(['kfp', 'google', 'google.cloud', 'kubernetes']))\n"
    lines = "\n".join(f"import {name.removesuffix('.__init__')}" for name in modules if not name.endswith("__main__"))
    subprocess.run([sys.executable, "-c", blocked + lines], check=True, cwd=ROOT)

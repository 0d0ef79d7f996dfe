"""Numbers we promised, in `tests/golden/*.json`; `make golden` writes them anew, in a commit that says why."""

import json
from pathlib import Path

import pytest
import torch
from two_processes import in_float64

from attngan.config.section import INCIDENTAL
from attngan.config.settings import Config
from attngan.data.dataset import Dataset
from attngan.inference import trained_encoders, weights
from attngan.losses.damsm import DAMSM_LOSSES
from attngan.storage import artifacts
from attngan.training import damsm_step
from attngan.training.damsm_run import DamsmRun
from attngan.training.gan_run import GanRun
from attngan.training.gan_step import batch_for, training_step

FOLDER = Path(__file__).parent


def is_near(ours, theirs) -> bool:
    """Return whether losses are those that were promised, by name, of each step."""
    return len(ours) == len(theirs) and all(
        one == pytest.approx(other, rel=1e-4, abs=1e-6) for one, other in zip(ours, theirs)
    )


def check_steps(name: str, steps: list[dict[str, float]], *, is_new: bool, folder: Path = FOLDER) -> None:
    """Hold steps against the promised ones, which belong to a version of states; with --golden promise the present.

    Other numbers are promised only under a higher version: a run must not go on from a state of before.
    """
    path, version = folder / f"{name}.json", artifacts.STATE_VERSION
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"state_version": 0, "steps": []}
    if is_new and not is_near(steps, before["steps"]):
        assert version > before["state_version"], "other numbers: raise artifacts.STATE_VERSION first"
        before = {"state_version": version, "steps": steps}
    if is_new:
        artifacts.write_json(path, before | {"state_version": version})
    assert is_near(steps, before["steps"]), "other numbers: if they are meant, raise STATE_VERSION, then make golden"
    assert is_new or version == before["state_version"], "STATE_VERSION was raised: make golden"


def test_other_numbers_are_promised_under_a_higher_version_of_states_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "STATE_VERSION", 3)
    check_steps("steps", [{"loss": 1.0}], is_new=True, folder=tmp_path)
    check_steps("steps", [{"loss": 1.00001}], is_new=False, folder=tmp_path)
    for is_new in (False, True):
        with pytest.raises(AssertionError, match="raise"):
            check_steps("steps", [{"loss": 1.1}], is_new=is_new, folder=tmp_path)
    monkeypatch.setattr(artifacts, "STATE_VERSION", 4)
    with pytest.raises(AssertionError, match="STATE_VERSION was raised"):
        check_steps("steps", [{"loss": 1.0}], is_new=False, folder=tmp_path)
    check_steps("steps", [{"loss": 1.1}], is_new=True, folder=tmp_path)
    check_steps("steps", [{"loss": 1.1}], is_new=False, folder=tmp_path)


def test_defaults_change_under_a_higher_version_of_states_alone(request):
    """A run is known by the settings that differ from their defaults: with another default it is another run."""
    path, version = FOLDER / "defaults.json", artifacts.STATE_VERSION
    now = flat(Config().model_dump(mode="json"))
    incidental = {name for name, field in Config.model_fields.items() if INCIDENTAL in field.metadata}
    before = json.loads(path.read_text(encoding="utf-8"))
    shaping = {name: value for name, value in before["defaults"].items() if name not in incidental}
    changed = [name for name, value in shaping.items() if now.get(name, "gone") != value]
    assert not changed or version > before["state_version"], f"raise artifacts.STATE_VERSION: {', '.join(changed)}"
    if request.config.getoption("--golden"):
        artifacts.write_json(path, {"state_version": version, "defaults": now})
    else:
        assert not changed and before["defaults"] == now, "make golden"


def flat(settings: dict, section: str = "") -> dict:
    """Return settings by their dotted names."""
    found = {}
    for name, value in settings.items():
        found |= flat(value, f"{section}{name}.") if isinstance(value, dict) else {f"{section}{name}": value}
    return found


def promised(name: str, value, request: pytest.FixtureRequest):
    """Return the promised value; with --golden promise the present one."""
    path = FOLDER / f"{name}.json"
    if request.config.getoption("--golden"):
        artifacts.write_json(path, value)
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_papers_networks_keep_their_names_and_shapes(request):
    config = Config()
    with torch.device("meta"):  # sizes alone
        discriminators = zip((64, 128, 256), weights.build_discriminators(config))
        networks = {
            "text_encoder": weights.build_text_encoder(config, 5450),
            "generator": weights.build_generator(config),
            **{f"discriminator_{each}": network for each, network in discriminators},
        }
    layout = {
        name: {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
        for name, network in networks.items()
    }
    assert layout == promised("state_dicts", layout, request)


def test_the_first_five_steps_of_the_encoders_have_the_promised_losses(dataset, smoke, request):
    """In float64, as below."""
    train = Dataset.open(dataset, "train")
    with in_float64():
        run, steps = DamsmRun(smoke, train, torch.device("cpu"), None), []
        for run.step in range(5):
            run.loss_sums.zero_()
            batch = damsm_step.batch_for(run, train, run.step, run.seed)
            batch.images[:] = [images.double() for images in batch.images]
            damsm_step.take_step(run, batch)
            losses = zip(DAMSM_LOSSES, run.loss_sums.tolist(), strict=True)
            steps.append({name: round(loss, 7) for name, loss in losses})
    check_steps("damsm_steps", steps, is_new=request.config.getoption("--golden"))


def test_the_first_five_steps_of_the_generator_have_the_promised_losses(dataset, smoke, request, tmp_path):
    """In float64, with encoders as they begin: Adam would make much of how a processor rounds float32."""
    train = Dataset.open(dataset, "train")
    cpu = torch.device("cpu")
    with in_float64():
        encoders = DamsmRun(smoke, train, cpu, None)
        files = trained_encoders.save(tmp_path, encoders.text_encoder, encoders.image_encoder, train.vocabulary, smoke)
        artifacts.finish(tmp_path, "damsm", files)
        run = GanRun(smoke, train, tmp_path, cpu)
        steps = []
        for run.step in range(5):
            batch = batch_for(run, train, run.step, run.seed)
            batch.images[:] = [images.double() for images in batch.images]
            steps.append({name: round(loss.item(), 7) for name, loss in training_step(run, batch).items()})
    check_steps("gan_steps", steps, is_new=request.config.getoption("--golden"))


def test_the_compiled_pipeline(request, tmp_path):
    pytest.importorskip("kfp")
    import pipeline
    from components import compiled
    from components.image import IMAGE

    compiled.write(pipeline.attngan_pipeline, tmp_path / "pipeline.yaml")
    specification, platform = compiled.read(tmp_path / "pipeline.yaml")
    del specification["sdkVersion"]
    for executor in specification["deploymentSpec"]["executors"].values():
        del executor["container"]["command"], executor["container"]["args"]  # the components' code has its own tests
    values = json.loads(json.dumps([specification, platform], sort_keys=True).replace(IMAGE, "IMAGE"))
    assert values == promised("pipeline", values, request)

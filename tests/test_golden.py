"""Numbers we promised, in `tests/golden/*.json`; `make golden` writes them anew, in a commit that says why."""

import json
from pathlib import Path

import pytest
import torch

from attngan import weights
from attngan.artifacts import write_json
from attngan.config import Config
from attngan.data.dataset import Dataset
from attngan.data.sampling import batch_of_step
from attngan.gan_run import GanRun
from attngan.train_generator import training_step

FOLDER = Path(__file__).parent / "golden"


def promised(name: str, value, request: pytest.FixtureRequest):
    """Return the promised value; with --golden promise the present one."""
    path = FOLDER / f"{name}.json"
    if request.config.getoption("--golden"):
        write_json(path, value)
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_papers_networks_keep_their_names_and_shapes(request):
    config = Config()
    networks = {
        "text_encoder": weights.build_text_encoder(config, 5450),
        "generator": weights.build_generator(config),
        **{f"discriminator_{each}": net for each, net in zip((64, 128, 256), weights.build_discriminators(config))},
    }
    layout = {
        name: {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
        for name, network in networks.items()
    }
    assert layout == promised("state_dicts", layout, request)


def test_the_first_five_steps_at_smoke_size_have_the_promised_losses(dataset, damsm, smoke, request):
    train = Dataset.open(dataset, "train")
    run = GanRun(smoke, train, damsm, torch.device("cpu"))
    steps = []
    for step in range(5):
        batch = batch_of_step(
            train, step, batch_size=8, resolutions=smoke.resolutions, max_words=18, seed=0, purpose="generator"
        )
        steps.append({name: round(loss.item(), 5) for name, loss in training_step(run, batch).items()})
        run.step += 1
    for ours, theirs in zip(steps, promised("five_steps", steps, request), strict=True):
        # Other processors add in another order; Adam's first steps make much of it.
        assert ours == pytest.approx(theirs, rel=0.05, abs=1e-3)


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

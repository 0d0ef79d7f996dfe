"""Numbers we promised, in `tests/golden/*.json`; `make golden` writes them anew, in a commit that says why."""

import json
from pathlib import Path

import pytest
import torch
from two_processes import in_float64

from attngan import artifacts, weights
from attngan.config import Config
from attngan.damsm_run import DamsmRun
from attngan.data.dataset import Dataset
from attngan.gan_run import GanRun
from attngan.gan_step import training_step
from attngan.train_generator import batch_for

FOLDER = Path(__file__).parent / "golden"


def promised(name: str, value, request: pytest.FixtureRequest):
    """Return the promised value; with --golden promise the present one."""
    path = FOLDER / f"{name}.json"
    if request.config.getoption("--golden"):
        artifacts.write_json(path, value)
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


def test_the_first_five_steps_at_smoke_size_have_the_promised_losses(dataset, smoke, request, tmp_path):
    """In float64, with encoders as they begin: Adam would make much of how a processor rounds float32."""
    train = Dataset.open(dataset, "train")
    cpu = torch.device("cpu")
    with in_float64():
        encoders = DamsmRun(smoke, train, cpu, None)
        files = weights.save_damsm(tmp_path, encoders.text_encoder, encoders.image_encoder, train.vocabulary, smoke)
        artifacts.finish(tmp_path, "damsm", files)
        run = GanRun(smoke, train, tmp_path, cpu)
        steps = []
        for run.step in range(5):
            batch = batch_for(run, train, run.step, run.seed)
            batch.images[:] = [images.double() for images in batch.images]
            steps.append({name: round(loss.item(), 7) for name, loss in training_step(run, batch).items()})
    for ours, theirs in zip(steps, promised("five_steps", steps, request), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


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

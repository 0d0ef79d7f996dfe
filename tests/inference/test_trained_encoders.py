"""The encoders that judge a generator's pictures are those that it was trained with, and no others of their sizes."""

import shutil

import pytest
import safetensors.torch

from attngan.errors import InputError
from attngan.steps.evaluate import evaluate
from attngan.steps.export_samples import export_samples
from attngan.storage import artifacts


@pytest.fixture
def of_another_training(damsm, tmp_path):
    """A damsm folder with the same settings and vocabulary."""
    folder = tmp_path / "other"
    shutil.copytree(damsm, folder)
    manifest = artifacts.read_manifest(damsm)
    weights = safetensors.torch.load_file(folder / "text_encoder.safetensors")
    safetensors.torch.save_file(
        {name: each + 0.001 for name, each in weights.items()}, folder / "text_encoder.safetensors"
    )
    artifacts.finish(folder, "damsm", list(manifest["files"]))
    return folder


def evaluated(dataset, damsm, generator, config, to):
    return evaluate(dataset, damsm, generator, to / "metrics", config)


def exported(dataset, damsm, generator, config, to):
    return export_samples(generator, to / "gallery", to / "bundle", config, dataset=dataset, damsm=damsm)


@pytest.mark.parametrize("step", [evaluated, exported])
def test_encoders_of_another_training_are_not_taken_for_the_generators_own(
    step, dataset, of_another_training, generator, smoke, tmp_path
):
    with pytest.raises(InputError) as refused:
        step(dataset, of_another_training, generator, smoke, tmp_path / "out")
    assert str(refused.value) == (
        f"{of_another_training}: expected the damsm folder that {generator} was trained with, found another text "
        "encoder; give that folder (another judge goes to evaluate --second-damsm)."
    )
    assert not [each for each in (tmp_path / "out").rglob("*") if each.is_file()]

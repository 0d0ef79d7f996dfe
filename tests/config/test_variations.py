"""The members of a sweep: all combinations, which of them share encoders, and what cannot vary."""

import pytest

from attngan.config import settings, variations
from attngan.errors import InputError
from attngan.steps import pretrain_damsm


def load(overrides):
    return settings.load("damsm: {steps: 4}", overrides=overrides)


def test_members_are_all_combinations_the_first_setting_slowest():
    found = variations.members(["training.damsm_weight=1,5,10", "seed=0,1"], load)
    pairs = [(member.config.training.damsm_weight, member.config.seed) for member in found]
    assert pairs == [(1, 0), (1, 1), (5, 0), (5, 1), (10, 0), (10, 1)]
    assert found[1].varied == {"training.damsm_weight": "1", "seed": "1"}


def test_values_are_yaml_and_may_be_texts():
    found = variations.members(["watch.metric=kid, 'r_precision'", "discriminator.spectral_norm=true,false"], load)
    assert len(found) == 4 and found[0].overrides == ("watch.metric=kid", "discriminator.spectral_norm=true")
    assert found[3].config.watch.metric == "r_precision"


def test_the_network_that_a_projected_discriminator_looks_through_may_vary():
    vary, weight = ["discriminator.projected.uri=a.pth,b.pth"], "discriminator.projected.weight="
    found = variations.members(vary, lambda given: load([f"{weight}1", *given]))
    assert [member.config.looked_through for member in found] == [["a.pth"], ["b.pth"]]
    with pytest.raises(InputError, match="makes the same as"):  # of a discriminator that there is not
        variations.members(vary, lambda given: load([f"{weight}0", *given]))


def test_only_what_encoders_are_made_from_divides_them():
    found = variations.members(["training.damsm_weight=1,5", "seed=0,1"], load)
    assert variations.with_own_encoders(found) == [found[0], found[1]]


@pytest.mark.parametrize(
    "override",
    [
        *("seed=7", "precision=bfloat16", "damsm.learning_rate=0.1", "damsm.gamma1=3", "damsm.steps=5"),
        *("text_encoder.dropout=0.1", "image_encoder.kind=small", "data.max_words=7", "watch.every_epochs=3"),
        *("watch.metric=r_precision", "watch.num_images=40", "training.batch_size=8", "generator.num_stages=2"),
        *("device=cuda", "discriminator.spectral_norm=true", "evaluate.num_images=40", "watch.on_trouble=stop"),
    ],
)
def test_members_share_encoders_where_a_training_of_them_would_be_the_same(override):
    """What shapes the states of a training of encoders, and how long it is, is what `shared` tells apart."""

    def training(config):
        return pretrain_damsm._shaping(config), config.damsm.epochs, config.damsm.steps

    one, other = load([]), load([override])
    assert (variations.shared(one) == variations.shared(other)) == (training(one) == training(other))


@pytest.mark.parametrize(
    ("vary", "sentence"),
    [
        (["training.damsm_wight=1,2"], "unknown setting training.damsm_wight (did you mean training.damsm_weight?)"),
        (["seed=1"], "--vary seed=1: expected several values with commas between, found 1; else use --set."),
        (["seed="], "expected several values with commas between, found 0"),
        (["seed"], "expected section.name=value,value"),
        (["seed=a,b"], "--vary seed=a,b: seed: input should be a valid integer, found 'a'"),
        (["seed=1,[2"], "--vary seed=1,[2: not readable as YAML"),
        (["seed=1,2", "seed=3,4"], "--vary seed=3,4: seed is given twice; give all its values at once."),
        (["seed=1,1"], "seed=1 makes the same as seed=1"),
        (["training.damsm_weight=1,1.0"], "makes the same as training.damsm_weight=1"),
        (["data.resolution=64,128"], "data cannot vary within a sweep, since the dataset is made once"),
        (["evaluate.num_images=10,20"], "since all are measured in the same way"),
        (["device=cpu,cuda"], "since it shapes no training"),
        ([f"seed={','.join(map(str, range(101)))}", f"damsm.steps={','.join(map(str, range(1, 101)))}"], "10,100"),
        ([], "expected at least one"),
    ],
)
def test_what_cannot_vary_is_said_in_a_sentence(vary, sentence):
    with pytest.raises(InputError) as caught:
        variations.members(vary, load)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)

"""Settings: the paper's defaults, and every mistake said at once with the name of the setting."""

from pathlib import Path

import pytest
import torch

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.errors import InputError
from attngan.inference.weights import build_image_encoder


def test_the_defaults_are_the_papers_bird_recipe():
    config = configs.load()
    assert config.resolutions == [64, 128, 256]
    assert (config.damsm.gamma1, config.damsm.gamma2, config.damsm.gamma3) == (4, 5, 10)
    assert (config.training.batch_size, config.training.epochs, config.training.damsm_weight) == (20, 600, 5)


@pytest.mark.parametrize(("stages", "every"), [(1, [256]), (2, [128, 256]), (3, [64, 128, 256])])
def test_the_resolutions_are_those_of_the_pictures_that_are_drawn(stages, every):
    config = configs.load(f"generator: {{num_stages: {stages}}}")
    assert config.resolutions == every
    assert configs.load(configs.dump(config), overrides=["generator.finest_only=true"]).resolutions == [256]


@pytest.mark.parametrize("name", configs.shipped())
def test_every_shipped_config_loads_and_dumps_to_itself(name):
    config = configs.load_file(Path(name))
    assert configs.load(configs.dump(config)) == config


def test_an_override_is_applied_last():
    assert configs.load("seed: 1", overrides=["seed=2", "damsm.epochs=3"]).damsm.epochs == 3


@pytest.mark.parametrize("kind", ["inception_v3", "mobilenet_v2", "small"])
def test_every_kind_of_image_encoder_can_be_written_down_and_built(kind):
    config = configs.load(f"image_encoder: {{kind: {kind}}}")
    assert configs.load(configs.dump(config)) == config
    with torch.device("meta"):  # sizes alone
        regions, image = build_image_encoder(config)(torch.zeros(1, 3, 256, 256))
    sides = {"inception_v3": 17, "mobilenet_v2": 14, "small": 8}
    assert regions.shape == (1, 256, sides[kind], sides[kind]) and image.shape == (1, 256)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("auto", "auto"), ("on", "on"), ("off", "off"), ("true", "on"), ("false", "off"), ("'on'", "on"), ("Yes", "on")],
)
def test_a_switch_is_written_in_any_of_yamls_ways(written, expected):
    """True and false are what configs of before hold; on and off are the same to YAML."""
    config = configs.load(f"cuda_graph: {written}", overrides=[f"compile={written}"])
    assert config.cuda_graph == config.compile == expected
    assert configs.load(configs.dump(config)) == configs.load(overrides=configs.overrides(config)) == config


@pytest.mark.parametrize(
    ("share", "is_enough"), [(0, True), (0.007, False), (0.0078, False), (0.0118, True), (0.5, True)]
)
def test_a_translation_moves_pictures_by_a_pixel_at_the_least(share, is_enough):
    overrides = ["generator.num_stages=3", "data.resolution=256", f"discriminator.translation={share}"]
    if not is_enough:
        with pytest.raises(
            InputError, match="moves pictures of 64 pixels by less than half a pixel, which is not at all"
        ):
            configs.load(overrides=overrides)
    else:
        assert configs.load(overrides=overrides).discriminator.translation == share


@pytest.mark.parametrize("written", ["maybe", "1", "[on]", "null"])
def test_another_value_of_a_switch_is_refused(written):
    with pytest.raises(InputError, match="compile: input should be 'auto', 'on' or 'off', found"):
        configs.load(f"compile: {written}")


def test_how_steps_are_taken_is_no_part_of_what_a_run_is_known_by():
    assert configs.load(overrides=["compile=on", "cuda_graph=off"]).shaping() == configs.load().shaping() == {}


def test_unknown_settings_are_named_with_the_nearest_known_one():
    with pytest.raises(InputError, match=r"unknown setting damsm\.epoch \(did you mean damsm\.epochs\?\)"):
        configs.load("damsm: {epoch: 3}", where="my.yaml")
    with pytest.raises(InputError, match=r"unknown setting traning \(did you mean training\?\)"):
        configs.load("traning: {epochs: 3}")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("resolution", "data.resolution"),
        ("generator.resolution", "data.resolution"),
        ("epochs", "damsm.epochs or training.epochs"),
        ("damsm_wight", "training.damsm_weight"),
        ("training.damsm_wight", "training.damsm_weight"),
        ("sed", "seed"),
    ],
)
def test_a_setting_without_its_section_or_in_another_one_is_answered_with_where_it_is(given, meant):
    with pytest.raises(InputError) as caught:
        configs.load(overrides=[f"{given}=1"])
    assert str(caught.value) == f"--set {given}=1: unknown setting {given} (did you mean {meant}?)"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("training.epochs: 5", "training: {epochs: ...}"),
        ("discriminator.projected.weight: 1", "discriminator: {projected: {weight: ...}}"),
        ("discriminator: {projected.weight: 1}", "projected: {weight: ...}"),
    ],
)
def test_a_setting_with_dots_in_yaml_is_answered_with_how_sections_are_written(text, meant):
    with pytest.raises(InputError) as caught:
        configs.load(text)
    assert str(caught.value).endswith(f"(did you mean {meant}?)")


def test_what_many_settings_are_called_is_not_guessed():
    with pytest.raises(InputError, match=r"unknown setting channels$"):
        configs.load(overrides=["channels=8"])


def test_every_mistake_is_said_at_once():
    with pytest.raises(InputError) as caught:
        configs.load("training: {epochs: zero, batch_size: 1, spectral: true}")
    message = str(caught.value)
    assert "training.epochs" in message and "training.batch_size" in message and "training.spectral" in message


def test_a_number_that_yaml_reads_as_text_is_explained():
    with pytest.raises(InputError, match=r"generator_learning_rate: .*write 0\.0002"):
        configs.load("training: {generator_learning_rate: 2e-4}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "expected settings"),
        ("a: b: c", "not readable as YAML"),
        ("seed: -1", "seed"),
        ("seed: .nan", "seed|not a number"),
        ("data: {resolution: 100}", "power of two"),
        ("generator: 3", "generator"),
        ("text_encoder: {feature_dim: 7}", "even"),
        ("image_encoder: {kind: mobilenet}", "'inception_v3', 'mobilenet_v2' or 'small', found 'mobilenet'"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(text, says):
    with pytest.raises(InputError, match=says):
        configs.load(text)


@pytest.mark.parametrize("override", ["seed", "=3", "seed.deeper=1", "seed=[1"])
def test_overrides_that_are_none_are_refused(override):
    with pytest.raises(InputError, match="--set"):
        configs.load("seed: 1", overrides=[override])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["training.batch_size=1"], "--set training.batch_size=1: training.batch_size: input should be"),
        (["damsm.epoch=1"], "--set damsm.epoch=1: unknown setting damsm.epoch (did you mean damsm.epochs?)"),
        (["training.batch_size=1", "training.batch_size=0"], "--set training.batch_size=0: training.batch_size: input"),
        (["generator.num_stages=3", "data.resolution=32"], "--set generator.num_stages=3, --set data.resolution=32: d"),
        (["samples.captions=[3]"], "--set samples.captions=[3]: samples.captions.0: input should be"),
        (["damsm=3"], "--set damsm=3: damsm: input should be"),
    ],
)
def test_a_mistake_in_an_override_names_it_and_not_the_file(overrides, said):
    with pytest.raises(InputError) as caught:
        configs.load_file(Path("tiny"), overrides=overrides)
    assert str(caught.value).startswith(said)


def test_mistakes_of_a_file_and_of_an_override_each_name_their_place():
    with pytest.raises(InputError) as caught:
        configs.load("{seed: -1, training: {epochs: 0}}", overrides=["damsm.epochs=0"], where="my.yaml")
    file, override = sorted(str(caught.value).replace("; --set", "\n--set").splitlines(), reverse=True)
    assert file.startswith("my.yaml: seed: ") and "; training.epochs: " in file
    assert override.startswith("--set damsm.epochs=0: damsm.epochs: ") and "my.yaml" not in override


def test_a_missing_file_names_the_configs_that_exist(tmp_path):
    with pytest.raises(InputError, match="medium, modern, paper, small, smoke, tiny, toy"):
        configs.load_file(tmp_path / "absent.yaml")


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3


def test_what_differs_is_named_with_both_values():
    before = configs.load_file(Path("tiny"))
    now = configs.load_file(Path("tiny"), overrides=["damsm.epochs=3", "evaluate.clip.uri=gs://b/c", "seed=2"])
    assert configs.differences(now, before) == [
        "seed=2 (was 0)",
        "damsm.epochs=3 (was 12)",
        "evaluate.clip.uri='gs://b/c' (was '')",
    ]
    assert configs.differences(before, before) == []


def test_what_shapes_a_result_leaves_out_what_is_marked_as_incidental():
    changed = configs.load("{device: cpu, num_threads: 3, training: {price_per_hour: 2.0}, card: {license: mit}}")
    assert changed.shaping() == Config().shaping()
    assert configs.load("training: {epochs: 3}").shaping()["training"]["epochs"] == 3


def test_in_a_pod_states_are_saved_every_two_minutes_unless_the_settings_say_otherwise():
    pod = {"defaults": configs.IN_A_POD}
    for text, seconds in (("", 120), ("training: {epochs: 3}", 120), ("base: tiny", 60)):
        config = configs.load(text, overrides=["training.batch_size=4"], **pod)
        assert config.training.checkpoint_every_seconds == seconds
        assert config.shaping() == configs.load(text, overrides=["training.batch_size=4"]).shaping()
    assert configs.load("", overrides=["damsm.checkpoint_every_seconds=7"], **pod).damsm.checkpoint_every_seconds == 7
    assert configs.load(**pod).damsm.checkpoint_every_seconds == 120 != configs.load().damsm.checkpoint_every_seconds
    assert configs.load_files([Path("smoke")], **pod).training.checkpoint_every_seconds == 120

"""Settings as people read and edit them: each with its meaning, and read back as they were."""

from pathlib import Path

import pytest

from attngan.config import described
from attngan.config import settings as configs
from attngan.config.section import Section
from attngan.config.settings import Config

CAPTIONS = ["samples.captions=[a red bird, 'a # b: c', \"\\u00e9\\U0001F426\", '']"]


@pytest.mark.parametrize("name", configs.shipped())
def test_what_is_read_back_is_what_was_written(name):
    config = configs.load_file(Path(name), overrides=CAPTIONS)
    assert configs.load(described.dump(config)) == config


def test_every_setting_says_what_it_is():
    def silent(section: Section) -> list[str]:
        names = [name for name in type(section).model_fields if not isinstance(getattr(section, name), Section)]
        return [f"{type(section).__name__}.{name}" for name in names if not known.get((type(section).__name__, name))]

    known, config = described._meanings(), Config()
    sections = [config, *(value for name in Config.model_fields if isinstance(value := getattr(config, name), Section))]
    assert not [name for section in [*sections, config.evaluate.clip] for name in silent(section)]


def test_a_meaning_stands_beside_its_setting_or_above_where_there_is_no_room():
    text = described.dump(configs.load_file(Path("tiny"), overrides=CAPTIONS))
    lines = text.splitlines()
    assert "  resolution: 64  # pixels: side of the finest picture trained on" in lines
    assert "  metric: kid  # one of kid, r_precision: says which snapshot is the best ..." in lines
    assert "damsm:  # Pretraining of both encoders (section 3.2; released code: DAMSM/bird.yml)" in lines
    above = lines[lines.index("  trunk_views: 4") - 2 : lines.index("  trunk_views: 4")]
    assert all(line.startswith("  # ") for line in above) and "frozen trunk is asked about once" in above[0]
    assert max(map(len, lines)) <= described.WIDTH


def test_without_the_source_the_settings_are_there_all_the_same(monkeypatch):
    def absent(module):
        raise OSError

    monkeypatch.setattr(described.inspect, "getsource", absent)
    described._meanings.cache_clear()
    try:
        assert configs.load(described.dump(Config())) == Config()
    finally:
        described._meanings.cache_clear()

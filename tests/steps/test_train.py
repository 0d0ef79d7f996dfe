"""`attngan train`: from a folder of captioned pictures to a model, in one command that goes on where it was."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import drawn_things
import pytest
import torch
import torchvision
from typer.testing import CliRunner

from attngan import cli
from attngan.config import settings
from attngan.errors import InputError
from attngan.steps import train
from attngan.storage import artifacts, folder_lock
from attngan.training import recipe
from attngan.training.recipe import Costs

STEPS = 6
SMALL = ["--config", "smoke", "--set", "device=cpu"]


def run(*arguments):
    return CliRunner().invoke(cli.app, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def things(made_once):
    return made_once("things", lambda folder: drawn_things.draw(folder, 60))


@pytest.fixture(scope="module")
def whole(things, made_once, tmp_path_factory):
    """Give a run that is done, and what it said."""
    folder = made_once("trained things", lambda folder: _keep(run(things, "--out", folder, *SMALL), folder))
    return folder, (folder / "said").read_text()


def _keep(ended, folder):
    assert ended.exit_code == 0, ended.output
    (folder / "said").write_text(ended.output)


def test_everything_is_there_and_named_as_a_pipeline_run_names_it(whole):
    out, said = whole
    for kind in ("dataset", "damsm", "generator", "metrics", "gallery", "bundle"):
        artifacts.check(out / kind, kind, contents=True)
    for page in ("gallery/index.html", "report.html", "progress.html", "damsm-progress.html"):
        assert "<html" in (out / page).read_text(encoding="utf-8"), page
    for number in range(1, STEPS + 1):
        assert said.count(f"== step {number} of {STEPS}: ") == 1
    assert said.count("watch.num_images: snapshots compare") == 1  # though several steps have it to say


def test_the_command_to_draw_a_sentence_can_be_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "my run"
    (out / "bundle").mkdir(parents=True)
    (out / "bundle" / "provenance.json").write_text(json.dumps({"examples": ["a red bird"]}))
    line = {"title": "R-precision", "value": "50%", "beside": "of other captions 10%"}
    (out / "metrics.json").write_text(json.dumps({"not_learnt": [], "summary": [line]}))
    train.tell(out, out)
    typed = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert typed[1:4] == ["generate", "my run/bundle", "a red bird"] and typed[-2:] == ["--out", "my run/pictures"]


def test_it_ends_with_five_figures_and_a_sentence_of_the_set(whole):
    out, said = whole
    end = said[said.index("== done ==") :].splitlines()
    assert end[1].startswith("The model has not learnt: ")
    figures = [line for line in end if line.startswith("  ") and "real pictures " in line]
    assert len(figures) == 5 and all(said.count(line) == 1 for line in (end[1], *figures))
    sentence = end[-1].split('"')[1]
    captions = [json.loads(line)["captions"] for line in (out / "dataset/test/records.jsonl").read_text().splitlines()]
    assert any(sentence in each for each in captions)
    drawn = CliRunner().invoke(cli.app, ["generate", str(out / "bundle"), sentence, "-n", "1", "--out", str(out / "p")])
    shutil.rmtree(out / "p")
    assert drawn.exit_code == 0, drawn.output


def test_what_has_not_learnt_is_no_champion(whole):
    out, said = whole
    assert "not promoted: the model has not learnt" in said
    assert not (out / "models" / "champion.json").exists()


def test_the_same_command_again_says_that_it_is_done(whole, things, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run", symlinks=True)
    again = run(things, "--out", tmp_path / "run", *SMALL)
    assert again.exit_code == 0, again.output
    assert again.output.count(": done before ==") == STEPS and "== done ==" in again.output


@pytest.mark.parametrize("edit", [("variants: 2", "variants: 3"), ("license: ''", "license: mit")])
def test_the_settings_lie_in_the_folder_and_an_edited_one_does_what_it_changes_alone(edit, whole, things, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole[0], out, symlinks=True)
    text = (out / "config.yaml").read_text()
    assert text.startswith("# The settings of this run") and "  # " in text
    assert settings.load(text).generator.channels == 4
    (out / "config.yaml").write_text(text.replace(*edit))
    again = run(things, "--out", out)
    assert again.exit_code == 0, again.output
    assert again.output.count(": done before ==") == STEPS - 1
    assert "step 5 of 6: draw the gallery, and pack the bundle ==\n" in again.output


def test_settings_of_the_command_line_are_those_of_the_folder_from_then_on(whole, things, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole[0], out, symlinks=True)
    changed = run(things, "--out", out, "--set", "samples.variants=3", "--set", "watch.patience=7")
    assert changed.exit_code == 0, changed.output
    assert (
        f"settings: {out}/config.yaml is written anew, with watch.patience=7 (was 0), samples.variants=3 (was 2)\n"
        in (changed.output)
    )
    text = (out / "config.yaml").read_text()
    assert "  variants: 3  # pictures a caption" in text and settings.load(text).watch.patience == 7
    again = run(things, "--out", out)
    assert f"settings: those of {out}/config.yaml; delete it" in again.output
    assert again.output.count(": done before ==") == STEPS
    other = run(things, "--out", out, *SMALL)
    assert "is written anew, with watch.patience=0 (was 7), samples.variants=2 (was 3)\n" in other.output
    assert settings.load_file(out / "config.yaml").samples.variants == 2


def test_the_settings_of_a_pipeline_run_are_kept_in_its_folder_too(tmp_path):
    first = train.settings_for("unread", tmp_path, given=[Path("smoke")], overrides=["seed=3"])
    first.keep_settings()
    assert settings.load_file(tmp_path / "config.yaml") == first.config
    assert train.settings_for("unread", tmp_path).config == first.config


def test_new_pictures_are_read_and_trained_on(whole, things, tmp_path):
    out, source = tmp_path / "run", tmp_path / "things"
    shutil.copytree(whole[0], out, symlinks=True)
    shutil.copytree(things, source)
    lines = (source / "captions.jsonl").read_text().splitlines()[:-1]
    (source / "captions.jsonl").write_text("\n".join(lines) + "\n")
    again = run(source, "--out", out)
    assert again.exit_code == 0, again.output
    assert "done before" not in again.output


def test_a_result_that_was_removed_is_made_again(whole, things, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole[0], out, symlinks=True)
    shutil.rmtree(out / "metrics")
    again = run(things, "--out", out)
    assert again.exit_code == 0, again.output
    assert again.output.count(": done before ==") == STEPS - 1  # the same figures: what comes after is as it was


def test_without_settings_they_are_chosen_and_five_lines_say_why(things, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "measure", lambda *_, **__: Costs(0.01, 0.01, 0.01, 0.01))
    few = ["--set", "damsm.steps=2", "--set", "training.steps=2", "--set", "evaluate.num_images=20"]
    few += ["--set", "data.resolution=32"]
    ended = run(things, "--out", tmp_path / "run", *few)
    assert ended.exit_code == 0, ended.output
    lines = ended.output.splitlines()
    start = lines.index("trying how fast a training is here ...")
    assert lines[start + 1].startswith("  pictures: 60, about 52 to train; 96 pixels")
    assert lines[start + 2].startswith("  recipe: tiny, 32 pixels: ")
    assert "(about " in next(line for line in lines if line.startswith("== step 3 of 6"))
    assert settings.load_file(tmp_path / "run" / "config.yaml").training.steps == 2


def test_what_is_left_is_said_where_it_is_known(tmp_path, smoke):
    def begun(config):
        run = train._Run(tmp_path)
        run.config = config
        return run

    def interrupt():
        raise KeyboardInterrupt

    first = begun(smoke)
    first.notes["seconds"] = dict.fromkeys(train.READ, 60.0)
    first.notes["settings"] = artifacts.fingerprint([smoke.shaping()])
    assert first._left("pretrain_damsm") == " (about 5 minutes left of the whole)"
    with pytest.raises(KeyboardInterrupt):
        first.step("pretrain_damsm", [], interrupt)
    again = begun(settings.load(settings.dump(smoke)))
    assert again._left("pretrain_damsm") == ""  # how much of it was done, its bar says
    assert again._left("train_generator") == " (about 4 minutes left of the whole)"
    edited = begun(settings.load(settings.dump(smoke), overrides=["training.steps=3"]))
    assert edited._left("train_generator") == ""


def test_the_same_command_with_minutes_goes_on_with_what_they_chose(whole, things, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder, symlinks=True)
    notes = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    notes["minutes"] = 5.0
    (folder / "train.json").write_text(json.dumps(notes), encoding="utf-8")
    again = run(things, "--out", folder, "--minutes", 5)
    assert again.exit_code == 0, again.output
    assert again.output.count(": done before ==") == STEPS
    assert "config.yaml; delete it to have them chosen again" in again.output


def test_other_minutes_choose_again_unless_the_settings_were_edited(whole, things, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_measured", lambda config, weights: recipe.Costs(0.01, 0.01, 0.01, 0.01))
    run_of, folder = train._Run(tmp_path / "run"), tmp_path / "run"
    run_of.config = run_of.chosen(things, None, ["device=cpu"], minutes=2)
    run_of.keep_settings()
    first = settings.load_file(folder / "config.yaml").training.steps
    again = train._Run(folder)
    assert again.known((), [], 2.0).training.steps == first and again.known((), [], 4.0) is None
    again.config = again.chosen(things, None, ["device=cpu"], minutes=1)
    again.keep_settings()
    assert settings.load_file(folder / "config.yaml").training.steps < first
    text = (folder / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(text.replace("batch_size: 8", "batch_size: 6"), encoding="utf-8")
    with pytest.raises(InputError, match=r"--minutes 4: .*config.yaml was edited, so nothing is chosen again"):
        train._Run(folder).known((), [], 4.0)
    assert train._Run(folder).known((), [], None).training.steps < first


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "soon"])
def test_minutes_must_be_some(things, tmp_path, minutes):
    ended = run(things, "--out", tmp_path / "run", "--minutes", minutes)
    assert ended.exit_code == 2 and not (tmp_path / "run").exists(), ended.output


def test_minutes_and_settings_do_not_go_together(things, tmp_path):
    ended = run(things, "--out", tmp_path / "run", "--minutes", 5, *SMALL)
    assert ended.exit_code == 2 and "the settings of --config say how long it takes" in ended.output


def test_three_pictures_are_one_sentence_and_leave_no_half_run(tmp_path):
    drawn_things.draw(tmp_path / "things", 3)
    ended = run(tmp_path / "things", "--out", tmp_path / "run")
    assert ended.exit_code == 2
    assert "3 pictures with captions are fewer than the 8" in ended.output and "Traceback" not in ended.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("evaluate.mobilenet_v2.uri=nowhere.pth", "nowhere.pth: expected a file"),
        ("evaluate.clip.uri=nowhere", "evaluate.clip"),
        ("publish.metric=r_precison", "publish.metric r_precison: expected a figure that evaluations have of a model"),
        ("publish.metric=r_precision_noise", "publish.metric r_precision_noise: expected a figure"),
    ],
)
def test_what_a_later_step_would_refuse_is_refused_before_the_first(things, tmp_path, setting, said):
    ended = run(things, "--out", tmp_path / "run", *SMALL, "--set", setting)
    assert ended.exit_code == 2 and said in ended.output, ended.output
    assert "==" not in ended.output and "Traceback" not in ended.output
    with pytest.raises(InputError, match=re.escape(said)):
        train.settings_for(str(things), tmp_path / "run", given=[Path("smoke")], overrides=["device=cpu", setting])


def test_a_pipeline_run_chooses_as_a_training_does_from_the_weights_too(things, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_measured", lambda config, weights: Costs(0.02, 0.1, 0.05, 1.0, 0.001))
    eye = tmp_path / "eye.pth"
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), eye)
    kept = train.settings_for(str(things), tmp_path / "run", overrides=["device=cpu"], inception_weights=str(eye))
    assert (kept.config.image_encoder.kind, kept.config.image_encoder.noise) == ("mobilenet_v2", 0)


def test_a_source_that_is_not_there_leaves_nothing(tmp_path):
    ended = run(tmp_path / "nowhere", "--out", tmp_path / "run", *SMALL)
    assert ended.exit_code == 2 and "nowhere" in ended.output and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("report.html", "progress.html", "damsm-progress.html", "config.yaml", "train.json", "state", "models"),
        *("bundle", "bundle/provenance.json", "gallery/index.html", "metrics/report.html", "damsm/unfinished/mine"),
    ],
)
def test_files_of_somebody_are_not_lost_and_are_told_before_the_first_step(things, tmp_path, name):
    place = tmp_path / "run" / name
    place.parent.mkdir(parents=True)
    place.write_text("mine: 1\n")
    ended = run(things, "--out", tmp_path / "run", *SMALL)
    assert ended.exit_code == 2 and f"run/{name.removesuffix('/mine')}: " in ended.output, ended.output
    assert "==" not in ended.output and place.read_text() == "mine: 1\n"


@pytest.mark.parametrize("minutes", [[], ["--minutes", "2"]])
def test_a_source_is_looked_at_before_anything_is_tried(tmp_path, monkeypatch, minutes):
    monkeypatch.setattr(train, "_measured", lambda config, weights: pytest.fail("tried"))
    drawn_things.draw(tmp_path / "things", 12)
    pictures = sorted((tmp_path / "things").rglob("*.png"))
    for picture in pictures[:2]:
        picture.write_text("broken")
    ended = run(tmp_path / "things", "--out", tmp_path / "run", *minutes)
    assert ended.exit_code == 2 and "2 of 12 images cannot be used" in ended.output, ended.output
    assert ended.output.count("rejected: ") == 2 and "trying how fast" not in ended.output


@pytest.mark.parametrize("where", ["is", "inside"])
def test_a_run_does_not_go_into_its_source(things, tmp_path, where):
    source = tmp_path / "things"
    shutil.copytree(things, source)
    before = sorted(os.listdir(source))
    ended = run(source, "--out", source if where == "is" else source / "run", *SMALL)
    assert ended.exit_code == 2, ended.output
    assert sorted(os.listdir(source)) == before


def test_weights_of_a_pretrained_eye_choose_the_image_encoder(tmp_path):
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), tmp_path / "eye.pth")
    assert train._pretrained_eye(tmp_path / "eye.pth") == ["image_encoder.kind=mobilenet_v2", "image_encoder.noise=0"]
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    assert train._pretrained_eye(tmp_path / "other.pth") == []


def test_a_folder_takes_one_run_at_a_time(things, tmp_path):
    folder = tmp_path / "run"
    with folder_lock.held(folder):
        ended = run(things, "--out", folder, *SMALL)
    assert ended.exit_code == 2 and "another run is at work there" in ended.output, ended.output
    assert not folder.exists()  # nothing was begun


@pytest.mark.parametrize("name", ["bundle", "generator", "damsm", "models"])
def test_a_run_does_not_begin_with_what_it_replaces(things, whole, tmp_path, name):
    shutil.copytree(whole[0], tmp_path / "run", symlinks=True)
    before = artifacts.sha256_of(tmp_path / "run" / "bundle" / "generator.safetensors")
    ended = run(things, "--out", tmp_path / "run", "--start-from", tmp_path / "run" / name, *SMALL)
    assert ended.exit_code == 2 and f"run/{name}: is the input" in ended.output, ended.output
    assert artifacts.sha256_of(tmp_path / "run" / "bundle" / "generator.safetensors") == before


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.yaml", "", "config.yaml: expected the settings of this run, found none"),
        ("train.json", '{"seconds": {}, "done": {"preprocess": {"made": "x"}}}', "train.json: expected"),
        ("train.json", '{"seconds": {"publish": 1e300}, "done": {}}', "train.json: expected"),
    ],
)
def test_files_of_a_run_that_are_damaged_are_a_sentence(whole, things, tmp_path, file, text, said):
    shutil.copytree(whole[0], tmp_path / "run", symlinks=True)
    (tmp_path / "run" / file).write_text(text, encoding="utf-8")
    ended = run(things, "--out", tmp_path / "run")
    assert ended.exit_code == 2 and said in ended.output, ended.output


def test_what_is_damaged_or_gone_is_made_again(whole, things, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder, symlinks=True)
    weights = folder / "generator" / "generator.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    shutil.rmtree(folder / "models")
    again = run(things, "--out", folder, *SMALL)
    assert again.exit_code == 0, again.output
    assert weights.read_bytes() == content and again.output.count(": done before ==") == 2

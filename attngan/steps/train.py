"""`attngan train`: the six steps one after the other in this process, with a schedule that fits what there is."""

import contextlib
import functools
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data.toy import drawn_birds
from attngan.errors import InputError, shown
from attngan.evaluation import verdict
from attngan.inference import published
from attngan.inference.bundle import examples
from attngan.models.image_encoder import PRETRAINED
from attngan.runtime import acceleration, console, scratch
from attngan.runtime.console import say
from attngan.steps import evaluate, export_samples, preprocess, pretrain_damsm, publish, train_generator
from attngan.storage import artifacts, folder_lock, json_text, places, result_folder, sources, tensor_files, uris
from attngan.storage.champion import ModelFolder, check_metric
from attngan.training import recipe, run_folder, start
from attngan.training.recipe import Costs
from attngan.training.run_folder import RunFolder

TITLES = {
    "preprocess": "read the pictures",
    "pretrain_damsm": "train the encoders",
    "train_generator": "train the generator",
    "evaluate": "measure how good its pictures are",
    "export_samples": "draw the gallery, and pack the bundle",
    "publish": "compare with the champion",
}
_ENCODERS = ("seed", "precision", "data", "text_encoder", "image_encoder", "damsm", "watch")
READ = {  # sections of the settings that shape what a step makes, beside what it is made from
    "preprocess": ("data",),
    "pretrain_damsm": _ENCODERS,
    "train_generator": (*_ENCODERS, "generator", "discriminator", "training"),
    "evaluate": ("seed", "evaluate"),
    "export_samples": ("seed", "samples"),
    "publish": ("publish",),
}
MADE = {  # folders that a step makes
    "preprocess": ("dataset",),
    "pretrain_damsm": ("damsm",),
    "train_generator": ("generator",),
    "evaluate": ("metrics",),
    "export_samples": ("gallery", "bundle"),
    "publish": (),
}
PAGES = {  # of a step: what it is called at the top of the folder, and where it is
    "pretrain_damsm": ("damsm-progress.html", "damsm/progress.html"),
    "train_generator": ("progress.html", "generator/progress.html"),
    "evaluate": ("report.html", "metrics/report.html"),
}
WATCHED = ("pretrain_damsm", "train_generator")  # whose pages are there while the step runs
NUM_MEASURED = 160  # drawn birds that the trainings are measured on


class _Folders:
    """What stands in a run's folder."""

    def __init__(self, out: Path):
        self.dataset, self.damsm, self.generator = out / "dataset", out / "damsm", out / "generator"
        self.metrics, self.gallery, self.bundle = out / "metrics", out / "gallery", out / "bundle"
        self.models, self.state = out / "models", out / "state"


def train(
    source: str,
    out: Path,
    *,
    captions: str | None = None,
    inception_weights: str | None = None,
    start_from: str | None = None,
    given: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    model_uri: str | None = None,
    force: bool = False,
) -> None:
    """Make a model of captioned pictures: everything in `out`, where the same command goes on, or says that it is done.

    Args:
        source: folder or archive with pictures and captions, local or in cloud storage.
        out: gets `dataset`, `damsm`, `generator`, `metrics`, `gallery`, `bundle`, the pages, `config.yaml`, `state`.
        captions: where they are not in the source.
        inception_weights: ImageNet weights for the image encoder.
        start_from: bundle, or folder of a run or an import, with whose weights encoders and generator begin.
        given: config files; without any, the settings are those in `out`, or chosen.
        overrides: `section.name=value`.
        minutes: that there are for everything, where the settings are chosen; None: as long as it is worth.
        model_uri: folder of the champion; `out/models` when None.
        force: publish whatever the metrics say.

    Raises:
        InputError: from the steps, or a setting is none.
    """
    check_apart(out, model_uri or "", [source, captions or "", inception_weights or "", start_from or ""])
    to = _Folders(out)
    with folder_lock.held(out), contextlib.ExitStack() as opened, console.once():
        run = _Run(out)
        run.check_places()
        models = ModelFolder(model_uri or str(to.models))  # one that cannot be used is said before the work
        before = opened.enter_context(places.local_input(start_from))
        overrides = [*(start.sizes_of(before) if before else []), *overrides]
        known = run.known(given, overrides, minutes)
        weights = opened.enter_context(places.local_input(inception_weights))
        eye = start.trunk(before, weights)
        with places.local_input(source) as pictures, places.local_input(captions) as texts:
            run.take(known or run.chosen(pictures, texts, overrides, minutes=minutes, weights=eye))
            data = run.step(
                "preprocess",
                [sources.fingerprint(source, captions or "")],
                lambda: preprocess.preprocess(pictures, to.dataset, run.config, captions=texts, is_for_all=True),
            )
        run.keep_settings()
        begun = places.fingerprint(start_from or "")  # of the generator too, whose encoders may be others
        encoders = run.step(
            "pretrain_damsm",
            [data, places.fingerprint(inception_weights or ""), begun],
            lambda: pretrain_damsm.pretrain_damsm(
                to.dataset, to.damsm, run.config, inception_weights=weights, start_from=before, state=str(to.state)
            ),
        )
        _from_encoders(run, to, [data, encoders, begun], before, models, force=force)
    tell(out, to.metrics)


def _from_encoders(
    run: "_Run", to: "_Folders", inputs: list[str], start_from: Path | None, models: ModelFolder, *, force: bool
) -> None:
    """Take the steps after the encoders'; `inputs` are fingerprints of the dataset, of them, of their start."""
    config, state, folders = run.config, str(to.state), (to.dataset, to.damsm, to.generator)
    inputs = [*inputs, run.frozen] if run.frozen else inputs
    generator = run.step(
        "train_generator",
        inputs,
        lambda: train_generator.train_generator(*folders, config, start_from=start_from, state=state),
    )
    inputs = [*inputs, generator]
    metrics = run.step("evaluate", inputs, lambda: evaluate.evaluate(*folders, to.metrics, config, state=state))
    shown = {"dataset": to.dataset, "damsm": to.damsm, "metrics": to.metrics}
    run.step(
        "export_samples",
        [*inputs, metrics, config.card.model_dump_json()],
        lambda: export_samples.export_samples(to.generator, to.gallery, to.bundle, config, **shown),
    )
    if not models.history():
        run.notes["done"].pop("publish", None)  # its model folder is gone, or another one
    run.step(
        "publish",
        [metrics, "" if models.uri == str(to.models) else models.uri, str(force)],
        lambda: say(publish.publish(to.bundle, to.metrics, models.uri, config, force=force)["reason"]),
    )


def check_apart(out: Path, model_uri: str, sources: Iterable[str]) -> None:
    """Refuse a run's folder that is a source or lies inside one, and a model folder that comes near one at all.

    A source may lie in the run's folder, as the birds of `make demo` do: the run writes beside it.
    """
    given = [source for source in sources if source]
    for source in given:
        if (relation := uris.relation_of(out, source)) in ("is", "lies inside"):
            raise InputError(f"{shown(str(out))}: {relation} the source {shown(source)}; name another --out.")
    results = (*(kind for kinds in MADE.values() for kind in kinds), "state", "models")
    uris.check_apart([out / name for name in results], given)
    if model_uri:
        uris.check_apart([model_uri], given)


def settings_for(
    source: str,
    out: Path,
    *,
    captions: str | None = None,
    given: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    inception_weights: str | None = None,
) -> RunFolder:
    """Return the folder of a run with the settings that `train` would take, which it can keep; arguments as there."""
    run = _Run(out)
    config = run.known(given, overrides, minutes)
    if config is None:
        with (
            places.local_input(source) as pictures,
            places.local_input(captions) as texts,
            places.local_input(inception_weights) as weights,
        ):
            config = run.chosen(pictures, texts, overrides, minutes=minutes, weights=weights)
    run.take(config)
    return run


class _Run(RunFolder):
    """A folder that is being filled, step by step."""

    def __init__(self, out: Path):
        super().__init__(out)
        self.number = 0
        self.frozen = ""  # sha256 of the weights that a projected discriminator looks through

    def take(self, config: Config) -> None:
        """Take settings; InputError where a file that they need later is not there."""
        check_metric(config)
        self.config, self.frozen = config, published.check_projected(config.discriminator.projected)
        evaluate.check_weights(config.evaluate)

    def check_places(self) -> None:
        """Refuse what is in the way of a result, of a page or of the state, before the first step."""
        for kind in (kind for kinds in MADE.values() for kind in kinds):
            result_folder.check_free(self.out / kind, kind)
        for name, _ in PAGES.values():
            _check_page(self.out / name)
        if (self.out / "state").exists() and not (self.out / "state").is_dir():
            raise InputError(f"{self.out / 'state'}: expected a folder, found a file; move it away.")

    def chosen(
        self,
        pictures: Path,
        captions: Path | None,
        overrides: Sequence[str],
        *,
        minutes: float | None,
        weights: Path | None = None,
    ) -> Config:
        """Return settings that fit the pictures, and say why."""
        early = [each for each in overrides if each.startswith(("device=", "num_threads=", "data.max_rejected_share="))]
        config = configs.load(overrides=early)
        found = recipe.Pictures(*preprocess.look(pictures, config, captions))
        say("trying how fast a training is here ...")
        device = acceleration.set_up_device(config)
        overrides = [*(_pretrained_eye(weights) if weights else []), *overrides]
        measured = functools.partial(_measured, weights=weights)
        chosen = recipe.choose(found, device, measured, minutes=minutes, overrides=overrides)
        for reason in chosen.reasons:
            say(f"  {reason}")
        place = self.out / run_folder.CONFIG
        say(f"  settings: all of them are in {place}; edit it, and the same command goes on with it")
        self.note_chosen(chosen.config, chosen.seconds, minutes)
        return chosen.config

    def step(self, name: str, inputs: list[str], work: Callable[[], object]) -> str:
        """Take a step, unless it is done; return a fingerprint of what came out.

        Args:
            name: of the step.
            inputs: fingerprints of what it is made from, beside the settings of `READ`.
            work: takes it.
        """
        self.number += 1
        shaping = self.config.shaping()
        read = {section: shaping[section] for section in READ[name] if section in shaping}
        key = artifacts.fingerprint([artifacts.STATE_VERSION, inputs, read])
        title, done = f"step {self.number} of {len(READ)}: {TITLES[name]}", self.notes["done"].get(name)
        if done and done["key"] == key and self._made(name, contents=True) == done["made"]:
            say(f"== {title}: done before ==")
            return done["made"]
        with console.stage(f"{title}{self._left(name)}"), self._shown(name):
            if name in WATCHED and self.notes["seconds"].pop(name, None):
                self.keep_notes()
            work()
        made = self._made(name) or ""
        self.notes["done"][name] = {"key": key, "made": made}
        self.keep_notes()
        return made

    def _left(self, name: str) -> str:
        """Return what is left of the whole, in words; nothing where a training goes on, or the settings were edited."""
        names, seconds = list(READ), self.notes["seconds"]
        left = names[names.index(name) :]
        timed = self.notes.get("settings") == run_folder.fingerprint(self.config)
        if not timed or not seconds.keys() >= set(left):
            return ""
        return f" (about {console.duration(sum(seconds[each] for each in left))} left of the whole)"

    def _made(self, name: str, *, contents: bool = False) -> str | None:
        """Return the fingerprint of what a step has made, or None where it is not there, whole (`artifacts.check`)."""
        try:
            found = [artifacts.check(self.out / kind, kind, contents=contents)["fingerprint"] for kind in MADE[name]]
        except InputError:
            return None
        return artifacts.fingerprint(found)

    @contextlib.contextmanager
    def _shown(self, step: str) -> Iterator[None]:
        """Let the page of a step be seen at the top of the folder, while it is made and after."""
        name, target = PAGES.get(step, ("", ""))
        if step in WATCHED:
            folder, file = target.split("/")
            self._link(name, f"{folder}/{result_folder.UNFINISHED}/{file}")
            say(f"watch it in {_short(self.out / name)}")
        yield
        if name:
            self._link(name, target)

    def _link(self, name: str, target: str) -> None:
        place, draft = self.out / name, self.out / f".{name}.part"
        _check_page(place)
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        os.replace(draft, place)


def _check_page(place: Path) -> None:
    if os.path.lexists(place) and not place.is_symlink():
        raise InputError(f"{place}: expected nothing there, or a link of an earlier run; move it away.")


def _pretrained_eye(weights: Path) -> list[str]:
    """Return the settings of an image encoder with these ImageNet weights: without noise, so that it is asked once."""
    tensors = tensor_files.read(weights)
    kinds = [kind for kind, encoder in PRETRAINED.items() if encoder.mark in tensors]
    return [f"image_encoder.kind={kinds[0]}", "image_encoder.noise=0"] if kinds else []


def _measured(config: Config, *, weights: Path | None) -> Costs:
    """Measure the trainings of a config on drawn birds: what is in the pictures makes no difference."""
    with scratch.folder("measured") as folder, console.silent():
        drawn_birds.draw(folder / "birds", count=NUM_MEASURED, seed=0)
        preprocess.preprocess(folder / "birds", folder / "dataset", config)
        (folder / "damsm").mkdir()
        return recipe.measure(folder / "dataset", folder / "damsm", config, inception_weights=weights)


def tell(out: Path, metrics: Path) -> None:
    """Say how a run ended: whether it has learnt, five figures, where everything is, and a sentence to try.

    Args:
        out: the run's folder, which has `gallery`, `bundle` and the pages.
        metrics: folder of `evaluate`.
    """
    measured, place = json_text.read(metrics / "metrics.json", dict[str, Any]), _short(out)
    say("== done ==")
    for sentence in verdict.sentences(measured["not_learnt"]):
        say(sentence)
    for line in verdict.lines(measured["summary"]):
        say(line)
    say(f"gallery   {place / 'gallery' / 'index.html'}")
    say(f"report    {place / 'report.html'}")
    say(f"progress  {place / 'progress.html'} (of the encoders: {place / 'damsm-progress.html'})")
    say(f"bundle    {place / 'bundle'}")
    to_try = examples(out / "bundle")
    command = "attngan" if shutil.which("attngan") else _short(Path(sys.executable).with_name("attngan"))
    if to_try:
        say("Draw a sentence:")
        sentence = shlex.quote(to_try[0]) if set(to_try[0]) & set('"$`!\\') else f'"{to_try[0]}"'
        program, bundle, pictures = (shlex.quote(str(each)) for each in (command, place / "bundle", place / "pictures"))
        say(f"  {program} generate {bundle} {sentence} -n 8 --seed 1 --out {pictures}")


def _short(path: Path) -> Path:
    """Return a path as a person in this folder would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

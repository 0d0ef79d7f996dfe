"""Step: measure on classes never trained on whether the pictures are good, and whether the measures are.

Every figure stands beside the same figure of controls whose result is known: real pictures, shuffled captions, noise,
blurred pictures. A control that does not land where it must is said in words.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from attngan.config.settings import Config, Evaluate
from attngan.data import feasible
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.evaluation import controls, evaluation_report, verdict
from attngan.evaluation.clip_score import Clip, open_clip
from attngan.evaluation.drawn_colours import colour_figures
from attngan.evaluation.extractors import (
    PIXELS,
    PRETRAINED,
    Extractor,
    changes,
    columns,
    damsm_extractor,
    pixels_apart,
    pretrained_extractors,
    trained_against,
)
from attngan.evaluation.measures import MetricMaker, Table
from attngan.evaluation.picture_sets import EvaluationPictures, Query
from attngan.evaluation.row_store import Made, RowStore, open_store
from attngan.evaluation.second_judge import SecondJudge, open_second_judge
from attngan.inference import trained_encoders
from attngan.inference.text_to_image import TextToImage
from attngan.metrics import names
from attngan.metrics.figures import Figures
from attngan.runtime import acceleration
from attngan.runtime.console import say, say_result
from attngan.storage import artifacts
from attngan.storage.result_folder import result
from attngan.training import trackers
from attngan.training.trackers import Trackers

JUDGES = {"num_candidates", "num_colour_captions", "kid_subsets", "kid_subset_size", "num_resamples"}  # not rows
SECOND_SENTENCE = "second sentence"  # column of the second judge's sentence features


def evaluate(
    dataset: Path,
    damsm: Path,
    generator: Path,
    out: Path,
    config: Config,
    *,
    second_damsm: Path | None = None,
    state: str | None = None,
) -> dict[str, float]:
    """Measure a generator and write the `metrics` folder: `metrics.json` and `report.html`.

    Killed and run again with the same settings, it goes on from the pictures it has seen; memory does not grow with
    their number.

    Args:
        dataset: folder of `preprocess`; its test split gives captions and real pictures.
        damsm: folder of `pretrain_damsm`.
        generator: folder of `train_generator`.
        out: the metrics folder.
        config: reads `evaluate`, `seed`, `device`; the networks' settings come with the generator.
        second_damsm: folder of another `pretrain_damsm` on that dataset, which judges R-precision too: one that the
            generator was not trained against, of any image encoder.
        state: folder to go on from, local or in cloud storage; `<out>.state` when None.

    Returns:
        Every figure by name; those of controls end in the control's name.
    """
    folders = {"dataset": dataset, "damsm": damsm, "generator": generator}
    folders |= {"second_damsm": second_damsm} if second_damsm else {}
    with result(out, "metrics", inputs=folders.values()) as draft:
        return _evaluated(folders, draft, config, state or f"{out}.state")


def check_weights(settings: Evaluate) -> None:
    """See that the networks are there whose weights the settings name, as before a training that is evaluated later.

    Raises:
        InputError: one is not, is another one, or not the one that was promised.
    """
    pretrained_extractors(settings, torch.device("cpu"))
    with open_clip(settings.clip, torch.device("cpu")):
        pass


def _evaluated(folders: dict[str, Path], out: Path, config: Config, state: str) -> dict[str, float]:
    """Measure a generator, and write the folder where it is made; return every figure by name."""
    damsm, generator = folders["damsm"], folders["generator"]
    subject = _open(folders["dataset"], generator, config)
    model, settings, device = subject.model, config.evaluate, subject.model.device
    image_encoder = trained_encoders.image_encoder_beside(model, generator, damsm)
    first, second = damsm_extractor(damsm, image_encoder), None
    pretrained = pretrained_extractors(settings, device)
    if "second_damsm" in folders:
        second = open_second_judge(folders["second_damsm"], subject, first=first, generator=generator)
    inputs = {name: artifacts.read_manifest(folder)["fingerprint"] for name, folder in folders.items()}
    with torch.no_grad(), open_clip(settings.clip, device) as clip:
        extractors = [first, *pretrained]
        judges = [*extractors, *([clip] if clip else []), *([second.extractor] if second else [])]
        looks = settings.model_dump(exclude={*JUDGES, *PRETRAINED, "clip"})
        looks["through"] = {judge.name: judge.conditions for judge in judges}  # by their weights, not by their place
        key = {**inputs, "seed": config.seed, "evaluate": looks}
        with (
            trackers.opened("metrics", config, [trackers.absolute(state), key]) as tracked,
            open_store(state, key) as store,
        ):
            tables = _look(store, subject, extractors, clip, second, settings.batch_size)
            flattered = trained_against(pretrained, generator, model.config)
            maker = MetricMaker(settings, config.seed, tables)
            figures, shown = _figures(maker, subject, extractors, clip, second, flattered)
            conditions = {
                **inputs,
                "resolution": model.generator.resolutions[-1],
                "crop": "centre square",
                "seed": config.seed,
                **settings.model_dump(exclude={*PRETRAINED, "clip"}),
                "num_candidates": figures["r_precision"]["generated"].candidates,
                "kid_subset_size": min(settings.kid_subset_size, settings.num_images, len(subject.test)),
                **looks["through"],
            }
            return _write(out, figures, conditions, shown, model.config, tracked, flattered)


def _open(dataset: Path, generator: Path, config: Config) -> EvaluationPictures:
    device = acceleration.set_up_device(config)
    with acceleration.beginning(device):
        model = TextToImage.open(generator, kind="generator", device=device)
    test, train = Dataset.open(dataset, "test"), Dataset.open(dataset, "train")
    if model.vocabulary.words != test.vocabulary.words:
        raise InputError(f"{generator}: its vocabulary is not the one of {dataset}; evaluate it on its own dataset.")
    if (drawn := model.generator.resolutions[-1]) > test.resolution:
        raise InputError(
            f"{dataset}: its pictures are stored for {test.resolution} pixels, {generator} draws {drawn}; evaluate it "
            "on its own dataset."
        )
    feasible.check(config, dataset, train, test, trains=False)
    counts = {"num_images": config.evaluate.num_images, "num_pairs": config.evaluate.num_pairs}
    return EvaluationPictures(model, test, train, config.seed, **counts)


def _look(
    store: RowStore,
    subject: EvaluationPictures,
    extractors: list[Extractor],
    clip: Clip | None,
    second: SecondJudge | None,
    batch_size: int,
) -> dict[str, Table]:
    """Let every extractor look at every picture, and return the tables of what they say."""

    def generated(numbers: range) -> Made:
        queries = [subject.queries[number] for number in numbers]
        images = subject.generated(queries, numbers.start)
        made = {**columns(judged_by, images), "sentence": subject.sentences(queries)}
        if second:
            made[SECOND_SENTENCE] = second.sentences(subject, queries)
        if clip:
            others = [subject.other_queries[number] for number in numbers]
            made |= {"clip": clip.score(images, subject.texts(queries))}
            made |= {"clip other": clip.score(images, subject.texts(others))}
        return made

    def real(numbers: range) -> Made:
        images, others = subject.real(numbers), subject.real([(n + num_real // 2) % num_real for n in numbers])
        made = {**columns(judged_by, images), f"{PIXELS} apart": pixels_apart(images, others)}
        if clip:
            made["clip"] = clip.score(images, subject.texts([Query(number, 0) for number in numbers]))
        return made

    judged_by = [*extractors, *([second.extractor] if second else [])]
    num_real, num_pairs = len(subject.test), len(subject.pairs)
    passes: dict[str, tuple[int, Callable[[range], Made]]] = {
        "generated": (len(subject.queries), generated),
        "real": (num_real, real),
        "noise": (num_real, lambda numbers: columns(judged_by, subject.noise(numbers))),
        "blurred": (num_real, lambda numbers: columns(judged_by, subject.blurred(numbers))),
        "train": (len(subject.train), lambda numbers: columns(extractors, subject.real(numbers, subject.train))),
        "pairs": (num_pairs, lambda numbers: changes(extractors, subject.pair(numbers))),
    }
    with acceleration.fitting(
        "evaluate.batch_size", batch_size, subject.model.device, lambda size: generated(range(size))
    ):
        return {name: store.table(name, count, batch_size, make) for name, (count, make) in passes.items()}


def _figures(
    maker: MetricMaker,
    subject: EvaluationPictures,
    extractors: list[Extractor],
    clip: Clip | None,
    second: SecondJudge | None,
    flattered: Sequence[str],
) -> tuple[Figures, dict[str, Any]]:
    """Return all figures, and what the report shows beside them."""
    judge = extractors[0].name  # the DAMSM's
    labels = subject.test.caption_labels()
    pool = [Query(image, caption) for image, caption in enumerate(maker.pool_captions(labels))]
    figures = maker.r_precision(judge, subject.queries, labels, subject.sentences(pool).cpu())
    candidates, wanted = figures["r_precision"]["generated"].candidates, maker.settings.num_candidates
    if candidates < wanted:
        say(feasible.fewer_candidates(candidates, wanted))
    if second:
        theirs = second.sentences(subject, pool).cpu()
        called = {"metric": names.SECOND_JUDGE, "sentence": SECOND_SENTENCE}
        figures |= maker.r_precision(second.extractor.name, subject.queries, labels, theirs, **called)
    shown: dict[str, Any] = {"colours": []}
    if subject.test.info.get("palette"):
        coloured, shown["colours"] = colour_figures(subject, maker, subject.test.info["palette"])
        figures |= coloured
    for extractor in extractors:
        name = extractor.name
        if len(subject.test) >= feasible.MIN_PICTURES:
            figures |= maker.distances(name)
        figures |= maker.changes(name)
        if f"{name} logits" in maker.tables["generated"]:
            figures |= maker.inception_scores(name)
    figures |= maker.changes(PIXELS)
    figures |= maker.contrast()
    pretrained = [extractor.name for extractor in extractors[1:]]
    for name in [PIXELS, *pretrained]:
        figures |= maker.memorisation(name)
    if clip:
        figures |= maker.clip_scores(clip.name)
    unseen = [name for name in pretrained if name not in flattered]
    # Where training knew every network: pixels tell two pictures of one caption apart, the encoders see what is drawn.
    copies_by, strangest_by = (unseen[0], unseen[0]) if unseen else (PIXELS, judge)
    shown |= {"copies_by": names.eyes_of(copies_by), "strangest_by": names.eyes_of(strangest_by)}
    shown["copies"] = evaluation_report.copies(subject, *maker.nearest_in_training(copies_by))
    found = maker.least_real(strangest_by, evaluation_report.NUM_STRANGEST)
    shown["strangest"] = evaluation_report.strangest(subject, found)
    shown["swaps"] = evaluation_report.swaps(subject)
    return figures, shown


def _write(
    out: Path,
    figures: Figures,
    conditions: dict[str, Any],
    shown: dict[str, Any],
    trained_by: Config,
    tracked: Trackers,
    flattered: Sequence[str],
) -> dict[str, float]:
    """Write the metrics folder, and return every figure by name."""
    failed = controls.failed(figures)
    findings = [*map(controls.flattered, flattered), *controls.findings(figures)]
    broken = [sentence for of_metric in failed.values() for sentence in of_metric]
    not_learnt, summary = verdict.not_learnt(figures, trained_by), verdict.summary(figures, failed, flattered)
    details = {
        _name(metric, subject): dataclasses.asdict(figure)
        for metric, subjects in figures.items()
        for subject, figure in subjects.items()
    }
    values = {name: each["value"] for name, each in details.items()}
    said = {"not_learnt": not_learnt, "summary": summary, "broken": broken, "findings": findings}
    artifacts.write_json(
        out / "metrics.json", {"figures": values, **said, "details": details, "conditions": conditions}
    )
    page = evaluation_report.page(figures, conditions, **said, **shown)
    artifacts.write_text(out / "report.html", page)
    facts = {"figures": values, "generator": conditions["generator"], "not_learnt": not_learnt}
    artifacts.finish(out, "metrics", ["metrics.json", "report.html"], **facts)
    tracked.restart([{"step": 0, **values}])
    tracked.file("report.html", page.encode())
    tracked.facts(**{kind: conditions[kind] for kind in ("dataset", "damsm", "generator")})
    for sentence in verdict.sentences(not_learnt):
        say_result(sentence)
    for sentence in (*broken, *findings):
        say(sentence)
    for line in verdict.lines(summary):
        say_result(line)
    return values


def _name(metric: str, subject: str) -> str:
    return metric if subject == "generated" else f"{metric}_{subject.replace(' ', '_')}"

"""`python -m benchmarks.ablation`: what each part of a newer recipe adds to the paper's, in equal time of training.

One DAMSM, then a generator for every way and seed, each in a process of its own; what `evaluate` finds side by side.
"""

import concurrent.futures
import contextlib
import functools
import itertools
import json
import math
import multiprocessing
import operator
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data import sampling
from attngan.data.dataset import Dataset
from attngan.errors import InputError
from attngan.evaluation.extractors import pretrained_extractors
from attngan.inference import published
from attngan.inference.text_to_image import Picture, TextToImage
from attngan.metrics import names
from attngan.pages import contact_sheet, pictures
from attngan.runtime import acceleration, exit_status
from attngan.steps.evaluate import evaluate
from attngan.steps.preprocess import look, preprocess
from attngan.steps.pretrain_damsm import pretrain_damsm
from attngan.steps.train_generator import train_generator
from attngan.storage import artifacts
from attngan.training import plan
from benchmarks import measure
from benchmarks.command_line import check_out, claim, some_of, write_figures
from benchmarks.scene import draw_birds_once

PAPERS = {  # every way states all of these: what the recipes ship makes no difference
    "generator.finest_only": "false",
    "generator.upsampling": "nearest",
    "generator.channels": "8",
    "discriminator.spectral_norm": "false",
    "discriminator.unconditional": "true",
    "discriminator.projected.weight": "0",
    "discriminator.projected.every_steps": "1",
    "discriminator.translation": "0",
    "training.generator_learning_rate": "0.002",
    "training.discriminator_learning_rate": "0.002",
}
SPECTRAL_NORM = {"discriminator.spectral_norm": "true"}
RATES = ("training.generator_learning_rate", "training.discriminator_learning_rate")
PARTS = {  # of the modern recipe, beside spectral norm
    "finest only": {"generator.finest_only": "true"},
    "bilinear": {"generator.upsampling": "bilinear"},
}
FURTHER = {  # what the recipe leaves out; `toy` has the rates of 0.004
    "projected": {"discriminator.projected.weight": "1"},
    "translation": {"discriminator.translation": "0.125"},
    **{f"rates {rate}": dict.fromkeys(RATES, rate) for rate in ("0.004", "0.008")},
}


def _way(*parts: dict[str, str]) -> list[str]:
    """Return the paper's settings, with those of some parts in their place."""
    stated = functools.reduce(operator.or_, parts, PAPERS)
    return [f"{setting}={value}" for setting, value in stated.items()]


def _modern(*further: str) -> list[str]:
    """Return the settings of the modern recipe, with some of the parts that it leaves out."""
    return _way(SPECTRAL_NORM, *PARTS.values(), *(FURTHER[name] for name in further))


WAYS: dict[str, list[str]] = {
    "paper's": _way(),
    "paper's + rates 0.004": _way(FURTHER["rates 0.004"]),
    "spectral norm": _way(SPECTRAL_NORM),
    **{f"+ {name}": _way(SPECTRAL_NORM, part) for name, part in PARTS.items()},
    "modern": _modern(),
    **{f"modern + {name}": _modern(name) for name in FURTHER},
    "modern + both": _modern("projected", "translation"),
    "attn-DCGAN": _way(PARTS["finest only"], {"discriminator.unconditional": "false"}),
}
# The last generator, and no going back with lower rates: ways shall differ in what they state, and in nothing else.
COMMON = ["watch.result=last", "watch.on_trouble=ignore", "evaluate.num_images=1000"]
FIGURES = ("r_precision", "body_colour", "wing_colour", "kid", "precision", "recall", "near_copies")
SNAPSHOTS = 5
NUM_CAPTIONS = 10  # of the sheet
DATASET, DAMSM = "dataset", "damsm"  # in the folder that is kept


def main(
    only: Annotated[str, typer.Option(help=f"Some of {', '.join(WAYS)}, with commas between.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each way.")] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Of steps in each training; its snapshots come on top.")] = 216,
    steps: Annotated[int | None, typer.Option(min=1, help="Of each training, in place of seconds.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time; each has one thread if there are more.")] = 2,
    birds: Annotated[int, typer.Option(help="Drawn ones.")] = 3000,
    source: Annotated[Path | None, typer.Option(help="As preprocess takes it; drawn birds without it.")] = None,
    captions: Annotated[Path | None, typer.Option(help="As preprocess takes them, beside --source.")] = None,
    damsm_steps: Annotated[int, typer.Option(min=0, help="Of the encoders' training; 0: as in the recipe.")] = 0,
    eyes: Annotated[Path | None, typer.Option(help="MobileNetV2's weights, through which it is judged too.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Gets pictures of the same captions, a row a way, as PNG.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Keeps what was trained, to go on there.")] = None,
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON.")] = Path("build/ablation.json"),
) -> None:
    """Train in several ways, with several seeds each and in equal time, and print the figures of all of them."""
    check_out(out)
    if sheet is not None:
        check_out(sheet, "--sheet")
    chosen = some_of(only, WAYS)
    own = {"jobs": jobs, "damsm_steps": damsm_steps, "eyes": None if eyes is None else str(eyes)}
    recipe = functools.partial(_recipe, "toy" if source is None else "tiny", **own)
    ways = {way: recipe(*WAYS[way]) for way in chosen}
    alone = recipe("num_threads=0")
    device = acceleration.set_up_device(alone)
    _check(source, captions, list(ways.values()), device)
    with tempfile.TemporaryDirectory(prefix="attngan-ablation-") as scratch:
        place = folder or Path(scratch)
        shown = f"{birds} drawn birds" if source is None else str(source)
        length = {"seconds": seconds} if steps is None else {"steps": steps}
        claim(place, {"pictures": shown, "captions": str(captions), **length, **own})
        for way in chosen:
            claim(place / way, {"settings": WAYS[way]})
        num_train = _prepare(place, alone, source, captions, birds)
        paces = _paces(place, ways, jobs, seconds) if steps is None else {}
        trainings = {}
        for seed in range(seeds):
            for way in chosen:
                count = steps or steps_within(seconds, paces[way])
                lasting = schedule(count, num_train // ways[way].training.batch_size)
                trainings[way, seed] = recipe(*WAYS[way], *lasting, f"seed={seed}")
        report = {
            **measure.conditions(device, "benchmarks.ablation"),
            **({"threads": 1} if jobs > 1 else {}),
            "source": source.name if source else shown,
            **length,
            **own,
            "ways": {way: WAYS[way] for way in chosen},
            "rows": [],
        }
        for row in _rows(place, trainings, paces, jobs):
            report["rows"].append(row)
            print(_line(row), flush=True)
            write_figures(out, report)
        print(f"\n{table(report['rows'], chosen)}\n\nfigures in {out}")
        if sheet is not None:
            _draw_sheet(sheet, place, chosen)


def steps_within(seconds: float, pace: float) -> int:
    """Return how many steps fit into a time, at the least one.

    Args:
        seconds: that there are.
        pace: seconds a step.
    """
    return max(1, int(seconds / pace))


def schedule(steps: int, steps_per_epoch: int) -> list[str]:
    """Return the settings of so many steps with `SNAPSHOTS` snapshots, or one a step where there are fewer steps."""
    every = math.ceil(steps / SNAPSHOTS) / steps_per_epoch
    return [f"training.steps={steps}", f"watch.every_epochs={every:.8f}"]


def table(rows: Sequence[dict[str, Any]], ways: Sequence[str]) -> str:
    """Return the means of each way's seeds as Markdown, with the lowest and the highest; failed trainings are left out.

    Args:
        rows: of all trainings.
        ways: in their order.
    """
    done = {way: [row for row in rows if row["way"] == way and "failed" not in row] for way in ways}
    kinds = dict.fromkeys(kind for row in rows for kind in row.get("figures", {}))
    lines = [["mean of its seeds (lowest to highest)", "seeds", "steps", "seconds", *(_title(kind) for kind in kinds)]]
    lines.append(["---"] * len(lines[0]))
    for way, own in done.items():
        spent = [f"{statistics.mean(row[name] for row in own):,.0f}" if own else "" for name in ("steps", "seconds")]
        values = ([row["figures"][kind]["value"] for row in own if kind in row["figures"]] for kind in kinds)
        lines.append([way, str(len(own)), *spent, *map(_spread, kinds, values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures_of(details: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the figures that are kept of a metrics folder, without those of its controls.

    Args:
        details: of `metrics.json`.

    Returns:
        Each with the ends of its interval, by its name; networks go by their kind, without their weights' digits.
    """
    kept = {}
    for name, each in details.items():
        eyes = each["features"]
        for kind in FIGURES:
            if name in (kind, f"{kind}_{eyes}"):
                short = name if name == kind else f"{kind}_{eyes.partition('-')[0]}"
                kept[short] = {end: each[end] for end in ("value", "low", "high")}
    return kept


def measure_pace(place: Path, way: str, number: int, config: Config, seconds: float) -> None:
    """Measure a step of one way, one of several times, and leave it in its folder; run in a process of its own."""
    with _told_in(place / way / "pace.log"):
        parts = plan.generator(place / DATASET, place / DAMSM, config, seconds=seconds)
    [pace] = [part.seconds for part in parts if part.name == "steps of the generator"]
    artifacts.write_json(_pace(place, way, number), pace)


def train(place: Path, way: str, seed: int, config: Config) -> None:
    """Train and evaluate a generator, unless that is done; run in a process of its own."""
    dataset, damsm, generator = place / DATASET, place / DAMSM, _generator(place, way, seed)
    with _told_in(place / way / f"{seed}.log"):
        if not (generator / artifacts.MANIFEST).exists():
            train_generator(dataset, damsm, generator, config)
        alike = config.model_copy(update={"seed": 0})  # the same captions and noise for all
        evaluate(dataset, damsm, generator, _metrics(place, way, seed), alike)


def _recipe(base: str, *overrides: str, jobs: int, damsm_steps: int, eyes: str | None) -> Config:
    shared = [*COMMON, f"damsm.steps={damsm_steps}", f"num_threads={int(jobs > 1)}"]
    if eyes is not None:
        shared.append(f"evaluate.mobilenet_v2.uri={json.dumps(eyes)}")
    return configs.load_file(Path(base), overrides=[*shared, *overrides])


def _check(source: Path | None, captions: Path | None, ways: Sequence[Config], device: torch.device) -> None:
    """Refuse what would end a training, or an evaluation, hours from now."""
    if source is not None:
        look(source, ways[0], captions)
    elif captions is not None:
        raise InputError(
            "--captions: expected with --source, whose pictures they describe; drawn birds have their own."
        )
    pretrained_extractors(ways[0].evaluate, device)
    for projected in {config.discriminator.projected for config in ways if config.discriminator.projected.weight}:
        published.projected_network(projected)


def _prepare(place: Path, config: Config, source: Path | None, captions: Path | None, birds: int) -> int:
    """Make dataset and encoders, unless they are there; return the number of pictures to train on."""
    if not (place / DATASET / artifacts.MANIFEST).exists():
        if source is None:
            draw_birds_once(place / "birds", birds)
        preprocess(source or place / "birds", place / DATASET, config, captions=captions)
    if not (place / DAMSM / artifacts.MANIFEST).exists():
        pretrain_damsm(place / DATASET, place / DAMSM, config)
    return len(Dataset.open(place / DATASET, "train"))


def _paces(place: Path, ways: dict[str, Config], jobs: int, seconds: float) -> dict[str, float]:
    """Return the seconds a step of each way, measured once, as many at a time as are trained: each beside itself."""
    files = {way: [_pace(place, way, number) for number in range(jobs)] for way in ways}
    lasting = min(plan.SECONDS, seconds)  # no longer than what is trained
    missing = [
        (place, way, number, config, lasting)
        for way, config in ways.items()
        for number in range(jobs)
        if not all(file.exists() for file in files[way])
    ]
    for _, error in _done(jobs, measure_pace, missing):
        if error is not None:
            raise error
    return {
        way: statistics.mean(json.loads(file.read_text(encoding="utf-8")) for file in of_way)
        for way, of_way in files.items()
    }


def _rows(
    place: Path, trainings: dict[tuple[str, int], Config], paces: dict[str, float], jobs: int
) -> Iterator[dict[str, Any]]:
    """Train what is not trained yet, and give what is known of each training as soon as it is done."""
    is_done = {each: (_metrics(place, *each) / artifacts.MANIFEST).exists() for each in trainings}
    waiting = [(place, *each, config) for each, config in trainings.items() if not is_done[each]]
    ended = (((way, seed), error) for (_, way, seed, _), error in _done(jobs, train, waiting))
    for (way, seed), error in itertools.chain(((each, None) for each in trainings if is_done[each]), ended):
        row = {"way": way, "seed": seed, "pace": paces.get(way)}
        if isinstance(error, InputError):  # as where a loss is not finite: a finding too
            yield {**row, "failed": str(error)}
            continue
        if error is not None:
            raise error
        made = artifacts.read_manifest(_generator(place, way, seed), "generator")
        found = json.loads((_metrics(place, way, seed) / "metrics.json").read_text(encoding="utf-8"))
        yield {**row, "steps": made["steps"], "seconds": made["seconds"], "figures": figures_of(found["details"])}


def _done(
    jobs: int, work: Callable[..., None], tasks: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], BaseException | None]]:
    """Do work in processes of their own, some at a time; give each task when it is done, with what it raised."""
    waiting = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        futures = {waiting.submit(_in_a_process, work, *task): task for task in tasks}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.exception()
        waiting.shutdown()
    except BaseException:
        waiting.shutdown(wait=False, cancel_futures=True)
        told: set[Any] = set()  # once each: a training saves its state first, and stops at once if it is told again
        while not all(future.done() for future in futures):  # one may only be beginning
            for process in {*multiprocessing.active_children()} - told:
                process.terminate()
                told.add(process)
            time.sleep(0.1)
        raise


def _in_a_process(work: Callable[..., None], *task: Any) -> None:
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        pool.submit(work, *task).result()


@contextlib.contextmanager
def _told_in(log: Path) -> Iterator[None]:
    """Write into a file what the block says, beside which another process has its own."""
    with log.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def _pace(place: Path, way: str, number: int) -> Path:
    return place / way / f"pace-{number}.json"


def _generator(place: Path, way: str, seed: int) -> Path:
    return place / way / f"generator-{seed}"


def _metrics(place: Path, way: str, seed: int) -> Path:
    return place / way / f"metrics-{seed}"


def _draw_sheet(path: Path, place: Path, ways: Sequence[str]) -> None:
    """Draw the same captions from the same noise in each way, by the generator of its first seed."""
    records = Dataset.open(place / DATASET, "test").records
    captions = [records[number]["captions"][0] for number in sampling.spread(len(records), NUM_CAPTIONS)]
    asked = [Picture(caption, number, seed=0) for number, caption in enumerate(captions)]
    rows = []
    for way in ways:
        generator = _generator(place, way, 0)
        if (generator / artifacts.MANIFEST).exists():
            drawn = TextToImage.open(generator, kind="generator").in_batches(asked)
            rows.append((way, [each for some in drawn for each in pictures.to_pictures(some.images[-1])]))
    if rows:  # all may have failed
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.save(contact_sheet.of_sentences(rows), path, {"captions": "\n".join(captions)})
        print(f"pictures in {path}")


def _line(row: dict[str, Any]) -> str:
    name = f"{row['way']}, seed {row['seed']}:"
    if "failed" in row:
        return f"{name} failed: {row['failed']}"
    figures = ", ".join(f"{_title(kind)} {names.text_of(kind, each['value'])}" for kind, each in row["figures"].items())
    return f"{name} {row['steps']:,} steps, {row['seconds']:.0f} s, {figures}"


def _title(kind: str) -> str:
    return kind.replace("_", " ")


def _spread(kind: str, values: Sequence[float]) -> str:
    if not values:
        return ""
    text = functools.partial(names.text_of, kind)
    spread = f" ({text(min(values))} to {text(max(values))})" if len(values) > 1 else ""
    return text(statistics.mean(values)) + spread


if __name__ == "__main__":
    with exit_status.reported():
        typer.run(main)

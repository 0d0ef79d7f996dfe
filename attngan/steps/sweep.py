"""A sweep: encoders and members, each with what it makes below one root, then a table of all, and the best published.

`sweep` does all of it on this machine; on a cluster the components of `components/sweep.py` do a part each. A member is
a training of the generator with its evaluation, gallery and bundle. What is whole below the root is not made again, so
a sweep that was interrupted, or got more values, goes on. What goes wrong is a member's result too.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from attngan.config import variations
from attngan.config.settings import Config
from attngan.config.variations import Member
from attngan.errors import InputError
from attngan.metrics import names
from attngan.pages import report
from attngan.runtime import console, exit_status
from attngan.runtime.console import say
from attngan.steps import evaluate, export_samples, preprocess, pretrain_damsm, publish, train_generator
from attngan.steps.train import check_apart
from attngan.storage import artifacts, delivery, folder_lock, json_text, places, uris
from attngan.storage.champion import check_metric
from attngan.storage.sources import fingerprint
from attngan.training import plan

MADE = {"generator": "generator", "metrics": "metrics", "gallery": "gallery", "bundle": "bundle"}  # folders and kinds
RESULT, PAGE, TABLE = "result.json", "sweep.html", "sweep.json"
STOP_SECONDS = 60.0  # for a member to save its state


class Result(TypedDict):
    """What is known of a member, or of encoders, once they are done or have failed."""

    error: str  # "" where nothing went wrong
    seconds: float
    figures: NotRequired[dict[str, float]]
    not_learnt: NotRequired[list[str]]
    summary: NotRequired[list[dict[str, str]]]


class Sweep:
    """Where the parts of a sweep are.

    Args:
        root: gets everything, local or in cloud storage.
        inputs: fingerprint of the sources, the pretrained weights among them.
        state: folder for states, local or in cloud storage.
    """

    def __init__(self, root: str, inputs: str, state: str):
        self.root, self.inputs, self.state = root, inputs, state

    def encoders(self, config: Config) -> str:
        """Return the place of a member's encoders: members who share them have the same."""
        return places.keyed(self.root, "encoders", [self.inputs, variations.shared(config)])

    def member(self, config: Config) -> str:
        """Return the place of all that a member makes."""
        weights = [places.fingerprint(uri) for uri in config.looked_through]
        return places.keyed(self.root, "member", [self.inputs, config.shaping(), *weights])

    def dataset(self, source: str, captions: str | None, base: Config) -> Path:
        """Return the folder of the dataset, here, which is made unless it is there."""
        folder = Path(places.keyed(self.root, "dataset", [self.inputs, base.data.model_dump(mode="json")]))
        if not (folder / artifacts.MANIFEST).exists():
            with places.local_input(source) as pictures, places.local_input(captions) as texts:
                preprocess.preprocess(pictures, folder, base, captions=texts, is_for_all=True)
        return folder

    def train_encoders(self, member: Member, dataset: Path, *, inception_weights: Path | None = None) -> None:
        """Train a member's encoders on a dataset, unless they are there."""
        place = self.encoders(member.config)

        def work() -> Result:
            with delivery.output(uris.join(place, "damsm"), kind="damsm", inputs=[]) as to:
                options = {"inception_weights": inception_weights, "state": self.state}
                return {"figures": pretrain_damsm.pretrain_damsm(dataset, to, member.config, **options)}

        _done(place, f"encoders of {', '.join(member.overrides)}", work)

    def train_member(self, member: Member, dataset: Path) -> Result:
        """Train, measure and pack a member on a dataset, unless it is done, and return its result."""
        place, encoders = self.member(member.config), self.encoders(member.config)

        def work() -> Result:
            trained = read_result(encoders)
            if trained is None or trained["error"]:
                why = trained["error"] if trained else "there are none"
                raise InputError(f"its encoders were not trained: {why}")
            with places.local_input(uris.join(encoders, "damsm")) as damsm, self._outputs(place) as to:
                inputs, config = (dataset, damsm, to["generator"]), member.config
                train_generator.train_generator(*inputs, config, state=self.state)
                evaluate.evaluate(*inputs, to["metrics"], config, state=self.state)
                shown = {"dataset": dataset, "damsm": damsm, "metrics": to["metrics"]}
                export_samples.export_samples(to["generator"], to["gallery"], to["bundle"], config, **shown)
                measured = json_text.read(to["metrics"] / "metrics.json", dict[str, Any])
            return {name: measured[name] for name in ("figures", "not_learnt", "summary")}

        return _done(place, ", ".join(member.overrides), work)

    @contextlib.contextmanager
    def _outputs(self, place: str) -> Iterator[dict[str, Path]]:
        """Give local folders of a member's results, delivered when all are made."""
        with contextlib.ExitStack() as stack:
            yield {
                name: stack.enter_context(delivery.output(uris.join(place, name), kind=kind, inputs=[]))
                for name, kind in MADE.items()
            }

    def table(self, members: Sequence[Member], out: Path, *, metric: str, higher_is_better: bool) -> Member:
        """Write `sweep.html` and `sweep.json` into a folder, and return the best member.

        Args:
            members: all of the sweep.
            out: the folder.
            metric: the figure that is compared; a member that has not learnt comes after all that have.
            higher_is_better: of that figure, where attngan does not know it.

        Raises:
            InputError: no member is done, or none has this figure; the table is written all the same.
        """
        found = [(member, read_result(self.member(member.config)) or _lost()) for member in members]
        higher_is_better = names.is_higher_better(metric, otherwise=higher_is_better)
        sign = -1 if higher_is_better else 1

        def rank(entry: tuple[Member, Result]) -> tuple[bool, bool, bool, float]:
            figures = entry[1].get("figures", {})
            learnt = not entry[1].get("not_learnt")
            return bool(entry[1]["error"]), metric not in figures, not learnt, sign * figures.get(metric, 0.0)

        found.sort(key=rank)
        best, result = found[0]
        has_best = not rank(found[0])[0] and not rank(found[0])[1]
        rows = [self._row(member, each) for member, each in found]
        about = {"metric": metric, "higher_is_better": higher_is_better, "best": rows[0]["place"] if has_best else None}
        artifacts.write_json(out / TABLE, {**about, "members": rows})
        eyes = {row["encoders"] for row in rows if not row["error"]}
        page = report.render("sweep.html.j2", **about, rows=rows, columns=_columns(rows), num_eyes=len(eyes))
        artifacts.write_text(out / PAGE, page)
        if result["error"]:
            raise InputError(f"no member of the sweep is done; of {' '.join(best.overrides)}: {result['error']}")
        if not has_best:
            known = ", ".join(sorted(result.get("figures", {})))
            raise InputError(f"publish.metric {metric}: no member has such a figure; they have {known}.")
        return best

    def fetch(self, member: Member, **to: Path) -> None:
        """Copy folders that a member has made to here, by name."""
        for name, folder in to.items():
            with places.local_input(uris.join(self.member(member.config), name)) as found:
                shutil.copytree(found, folder, dirs_exist_ok=True)

    def _row(self, member: Member, result: Result) -> dict[str, Any]:
        places_of = {"place": self.member(member.config), "encoders": self.encoders(member.config)}
        return {"varied": member.varied, **places_of, **result}


def sweep(
    source: str,
    out: Path,
    members: Sequence[Member],
    base: Config,
    *,
    captions: str | None = None,
    inception_weights: str | None = None,
    model_uri: str | None = None,
    force: bool = False,
    parallel: int = 1,
    is_agreed: bool = False,
) -> int:
    """Make all members on this machine and publish the best; the same command goes on where it was.

    Args:
        source: folder or archive with pictures and captions, local or in cloud storage.
        out: gets the dataset, a folder for each set of encoders and each member, `sweep.html`, `sweep.json`, `state`.
        members: what to make.
        base: the settings that all of them share.
        captions: where they are not in the source.
        inception_weights: ImageNet weights for the image encoder.
        model_uri: folder of the champion; `out/models` when None.
        force: publish whatever the metrics say.
        parallel: members at the same time, each a process if there are several.
        is_agreed: many members are meant.

    Returns:
        How many members failed.

    Raises:
        InputError: from preprocess and publish, many members were not agreed to, or none is done.
    """
    out = out.resolve()
    given = [source, captions or "", inception_weights or ""]
    check_apart(out, model_uri or "", given)
    check_metric(base)
    evaluate.check_weights(base.evaluate)
    with folder_lock.held(out), places.local_input(inception_weights) as weights:
        here = Sweep(str(out), fingerprint(*given), str(out / "state"))
        dataset = here.dataset(source, captions, base)
        if len(members) > variations.MANY and not is_agreed:
            parts = plan.plan(dataset, members[0].config, inception_weights=weights)
            seconds = len(members) * sum(part.total for part in parts)
            raise variations.too_many(
                members, f"about {console.duration(seconds)} of training here, one after the other"
            )
        train_encoders = functools.partial(here.train_encoders, dataset=dataset, inception_weights=weights)
        _each(train_encoders, variations.with_own_encoders(members), parallel, out / "logs")
        _each(functools.partial(here.train_member, dataset=dataset), members, parallel, out / "logs")
        settings = base.publish
        best = here.table(members, out, metric=settings.metric, higher_is_better=settings.higher_is_better)
        place, to = Path(here.member(best.config)), model_uri or str(out / "models")
        made = place / "bundle", place / "metrics"
        decision = publish.publish(*made, to, best.config, inputs=here.inputs, force=force)
    num_failed = tell(out / TABLE)
    for line in (decision["reason"], f"table     {out / PAGE}", f"best      {place}"):
        say(line)
    return num_failed


def _each(work: Callable[[Member], object], members: Sequence[Member], parallel: int, logs: Path) -> None:
    """Do some work for each member: one after the other in this process, or several at once in processes."""
    if parallel == 1:
        for member in members:
            work(member)
        return
    logs.mkdir(exist_ok=True)
    running: list[Any] = []
    starting, stopping = threading.Lock(), threading.Event()  # once this is set nothing starts

    def start(member: Member) -> None:
        title = ", ".join(member.overrides)
        log = logs / f"{artifacts.fingerprint(member.overrides)[:16]}.log"
        process = multiprocessing.get_context("spawn").Process(target=_logged, args=(work, member, log))
        with starting:
            if stopping.is_set():
                return
            say(f"{title}: begins ({log})")
            process.start()
            running.append(process)
        process.join()
        say(f"{title}: {'ended' if process.exitcode == 0 else f'lost (exit status {process.exitcode}); see {log}'}")

    with ThreadPoolExecutor(parallel) as pool:
        try:
            list(pool.map(start, members))
        except BaseException:
            with starting:
                stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            for process in running:
                process.join(STOP_SECONDS)
            raise


def _logged(work: Callable[[Member], object], member: Member, log: Path) -> None:
    """Do some work in a process of its own, which prints into a log."""
    with log.open("ab", buffering=0) as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    with exit_status.reported():
        work(member)


def read_result(place: str) -> Result | None:
    """Return what is known of a member or of encoders; None before they are done."""
    uri = uris.join(place, RESULT)
    content = places.read(uri)[0]
    return json_text.parse(content, uri, Result, mend="remove it: the member is made again") if content else None


def write_result(place: str, result: Result) -> None:
    """Keep what is known of a member or of encoders."""
    uri = uris.join(place, RESULT)
    places.write(uri, json.dumps(result).encode(), generation=places.read(uri)[1])


def tell(table: Path) -> int:
    """Say how a sweep ended: each member with the figure that is compared, or why it failed; return how many did."""
    found = json_text.read(table, dict[str, Any])
    for row in found["members"]:
        value = row.get("figures", {}).get(found["metric"])
        shown = f"failed: {row['error']}" if row["error"] else "-" if value is None else f"{value:.4g}"
        learnt = "; has not learnt" if row.get("not_learnt") else ""
        mark = "best" if row["place"] == found["best"] else ""
        say(f"{mark:5}{', '.join(f'{name} {value}' for name, value in row['varied'].items())}: {shown}{learnt}")
    return sum(bool(row["error"]) for row in found["members"])


def _done(place: str, title: str, work: Callable[[], Mapping[str, Any]]) -> Result:
    """Do a piece of work unless it is done, and keep how it ended; what goes wrong in it is its result."""
    before = read_result(place)
    if before is not None and not before["error"]:
        say(f"== {title}: done before ==")
        return before
    begun = time.monotonic()
    with console.stage(title):
        try:
            result: Result = {"error": "", **work()}
        except Exception as error:
            sentence = exit_status.explain(error)
            if sentence is None:
                traceback.print_exc()
            result = {"error": sentence or f"{type(error).__name__}: {error}"}
            say(f"failed: {result['error']}")
    result["seconds"] = time.monotonic() - begun
    write_result(place, result)
    return result


def _lost() -> Result:
    return {"error": "it ended without a result: its process or pod was lost; run the sweep again", "seconds": 0.0}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return what varies, and the titles of the figures that members have, each in order."""
    titles = {line["title"]: None for row in rows for line in row.get("summary", [])}
    return {"varied": list(rows[0]["varied"]), "titles": list(titles)}

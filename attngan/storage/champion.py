"""The model folder: who the champion is, who was it before, their bundles, and every decision.

`champion.json` names the champion and the one before, `models/<fingerprint>/` holds bundles, `history/` a file for each
decision, named by its stamp and by what was trained on: a later run sees there whether anything is new. That nothing
was is a decision too, in a file of its own kind, which names the decision on a model that it goes back to. Stamps are
times that never go back, whatever the clocks of the machines do: of two decisions the newer has the later one.
`pictures/` has what each champion draws of the same sentences; `index.html` and `README.md`, for people, are made of
all that.
"""

import datetime
import difflib
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic takes typing's own from Python 3.12 on

from attngan.config.settings import Config
from attngan.errors import Changed, InputError, shown
from attngan.metrics import names
from attngan.storage import artifacts, cloud, json_text, places, uris

POINTER = "champion.json"
PICTURES = "pictures"
SENTENCES = f"{PICTURES}/sentences.json"
STAMP = "%Y%m%dT%H%M%S.%fZ"
DECISION = re.compile(r"([0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-([0-9a-f]{16}|unknown)(-unchanged)?\.json")
UNCHANGED = "-unchanged"  # at the end of the name of a decision that nothing was new
TICK = datetime.timedelta(microseconds=1)
LAST_YEAR = 9000  # of a stamp, after which others must have room


class Entry(TypedDict):
    """What `champion.json` says of a model."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    model: Annotated[str, Field(pattern=r"^models/[0-9a-f]{1,64}$")]
    fingerprint: str
    figures: dict[str, float]
    promoted: NotRequired[str]  # when


class Pointer(TypedDict):
    """What `champion.json` holds; without a stamp where an older attngan wrote it."""

    champion: Entry
    previous: Entry | None
    stamp: NotRequired[str]


class Origin(TypedDict):
    """What a model is made from."""

    inputs: str
    config: str


class Decision(TypedDict):
    """What a file of the history holds, as far as it is read."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    time: str
    promoted: bool
    origin: Origin | None


class Told(TypedDict, total=False):
    """What people are told of a file of the history; an older one says less."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    promoted: bool
    retrain: bool  # False where nothing was new
    reason: str
    metric: str
    challenger: float | None
    low: float | None  # ends of the interval of the challenger's figure
    high: float | None
    bundle: str


def origin(inputs: str, config: Config) -> Origin:
    """Return what a model is made from: the fingerprints of its inputs (`sources.fingerprint_of`) and settings."""
    return {"inputs": inputs, "config": artifacts.fingerprint(config.shaping())}


def check_metric(config: Config) -> None:
    """Refuse a metric that no evaluation has of a model, as before a training that it will be asked about."""
    metric = config.publish.metric
    if names.is_of_a_model(metric):
        return
    kinds = names.METRICS.keys() - {"variety"}  # which snapshots have alone
    near = difflib.get_close_matches(metric, kinds, n=1)
    hint = f" (did you mean {near[0]}?)" if near and near[0] != metric else ""
    raise InputError(
        f"publish.metric {shown(metric)}: expected a figure that evaluations have of a model{hint}, such as "
        f"{', '.join(names.WITHOUT_EYES[1:])}, or kid_inception-fid-6726825d, whose end is the network that looked and "
        "the first digits of its weights' sha256; metrics.json of a run has all."
    )


class ModelFolder:
    """The model folder as it was when it was opened.

    Args:
        uri: the folder; it need not exist.

    Raises:
        InputError: it is a file, or its `champion.json` is damaged. Only where there is none, there is no champion.
    """

    def __init__(self, uri: str):
        if not uris.is_remote(uri) and Path(uri).exists() and not Path(uri).is_dir():
            raise InputError(f"{uri}: expected the folder of the champion, found a file; name another one.")
        self.uri = uri
        self.champion: Entry | None = None
        self.previous: Entry | None = None
        self._stamp = datetime.datetime.min.replace(tzinfo=datetime.UTC)  # the latest that is known to be taken
        content, self._generation = places.read(uris.join(uri, POINTER))
        if self._generation:
            self._take(content)
        self._stamp = self._next_stamp()

    def keep(self, bundle: Path, fingerprint: str) -> str:
        """Store a bundle in the folder, unless a sound copy is there, and return its name there.

        Raises:
            InputError: what was stored cannot be opened from there.
        """
        name = f"models/{fingerprint[:16]}"
        uri = uris.join(self.uri, name)
        if self._problem(uri, fingerprint):
            files = [(bundle / file, file) for file in artifacts.read_manifest(bundle)["files"]]
            places.copy(files, uri)  # whoever stores the same bundle at once writes the same bytes
            places.copy([(bundle / artifacts.MANIFEST, artifacts.MANIFEST)], uri)
            if problem := self._problem(uri, fingerprint):
                raise InputError(
                    f"{uri}: the bundle that was just stored cannot be opened, so the champion stays: {problem}"
                )
        return name

    def check(self, entry: Entry) -> None:
        """Refuse a model that cannot be opened from the folder."""
        uri = uris.join(self.uri, entry["model"])
        if problem := self._problem(uri, entry["fingerprint"]):
            raise InputError(f"{problem} The champion stays; to have {entry['model']} back, publish its bundle again.")

    def set_champion(self, entry: Entry, previous: Entry | None) -> None:
        """Make `entry` the champion.

        Raises:
            Changed: there is another champion than when the folder was opened.
        """
        self._stamp = self._next_stamp()  # later than that of the champion which it replaces
        pointer = {"champion": entry, "previous": previous, "stamp": f"{self._stamp:{STAMP}}"}
        text = json.dumps(pointer, indent=2, allow_nan=False)
        uri = uris.join(self.uri, POINTER)
        self._generation = places.write(uri, text.encode(), generation=self._generation)
        self.champion, self.previous = entry, previous

    def remember(self, decision: dict[str, Any]) -> None:
        """Keep a decision on a model, of when the folder was opened or the champion set; its `origin` may be None."""
        self._remember(decision)

    def remember_unchanged(self, made_from: Origin, reason: str) -> None:
        """Keep that nothing was trained, since a model of this origin was decided on before, and why in words."""
        before = self._names_of(made_from)[-1:]
        decision = {"retrain": False, "reason": reason, "decision": before[0] if before else None, "origin": made_from}
        self._remember(decision, UNCHANGED)

    def _remember(self, decision: dict[str, Any], kind: str = "") -> None:
        record = {"time": now().isoformat(timespec="seconds"), **decision}
        content = json.dumps(record, indent=2, allow_nan=False).encode()
        while True:
            name = f"{self._stamp:{STAMP}}-{_short(decision['origin'])}{kind}.json"
            self._stamp += TICK  # of the next decision
            try:
                places.write(uris.join(self.uri, "history", name), content, generation=0)
                return
            except Changed:
                continue  # somebody else decided on a model of this origin at the same time

    def history(self) -> list[str]:
        """Return the names of all decisions, also of those that nothing was new, the oldest first."""
        return [name for name in places.names(uris.join(self.uri, "history")) if time_of(name)]

    def decisions(self) -> list[str]:
        """Return the names of all decisions on models, the oldest first."""
        return [name for name in self.history() if not name.endswith(f"{UNCHANGED}.json")]

    def decision(self, name: str) -> Decision:
        """Return one decision."""
        uri = uris.join(self.uri, "history", name)
        expected, mend = (
            "a decision",
            "restore the file from an older version, or remove it: then that decision is forgotten",
        )
        decision = json_text.parse(places.read(uri)[0], uri, Decision, expected=expected, mend=mend)
        if not name.endswith(f"-{_short(decision['origin'])}.json"):
            raise InputError(f"{uri}: expected a decision on the origin in its name, found another origin; {mend}.")
        return decision

    def told(self, names: Sequence[str]) -> list[Told | None]:
        """Return what people are told of some decisions, None for each that cannot be read."""
        contents = self.read_all([uris.join("history", name) for name in names])
        return [_told(content, name) for content, name in zip(contents, names, strict=True)]

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Return the contents of small files of the folder, empty where there is none."""
        with ThreadPoolExecutor(cloud.NUM_WORKERS) as readers:
            return list(readers.map(lambda name: places.read(uris.join(self.uri, name))[0], names))

    def rewrite(self, name: str, make: Callable[[], str], *, mark: str) -> None:
        """Write a file that is made of what the folder holds.

        Of two who rewrite it at once the later one shows what both have written before: it is made of what was there
        after its last version was read, and where another one has come since, it is made again.

        Args:
            name: of the file.
            make: returns its text; reads what it needs of the folder anew each time.
            mark: what a file holds that may be replaced.

        Raises:
            InputError: somebody else has put a file there.
        """
        uri = uris.join(self.uri, name)
        while True:
            before, generation = places.read(uri)
            if generation and mark.encode() not in before:
                raise InputError(f"{uri}: stands in the way, and attngan did not write it; move it away.")
            text = make().encode()
            if text == before:
                return
            try:
                places.write(uri, text, generation=generation)
                return
            except Changed:
                continue

    def find(self, made_from: Origin) -> Decision | None:
        """Return the latest decision on a model of this origin, or None."""
        found = self._names_of(made_from)
        return self.decision(found[-1]) if found else None

    def _names_of(self, made_from: Origin) -> list[str]:
        return [name for name in self.decisions() if name.endswith(f"-{_short(made_from)}.json")]

    def _take(self, content: bytes) -> None:
        uri = uris.join(self.uri, POINTER)
        mend = "restore the file from an older version, or remove it: then the next publish begins anew, and models "
        mend += "and history stay"
        pointer = json_text.parse(content, uri, Pointer, expected="the champion and the previous one", mend=mend)
        self.champion, self.previous = pointer["champion"], pointer["previous"]
        if "stamp" in pointer:
            stamp = _time(pointer["stamp"])
            if stamp is None:
                raise InputError(f"{uri}: expected the time of the last decision, found {pointer['stamp']!r}; {mend}.")
            self._stamp = stamp

    def _next_stamp(self) -> datetime.datetime:
        """Return a time that is later than that of any decision so far, and no earlier than it is."""
        stamps = [self._stamp, *map(time_of, self.history()[-1:])]
        return max(now(), *(stamp + TICK for stamp in stamps if stamp))

    def _problem(self, uri: str, fingerprint: str) -> str | None:
        """Return why the bundle cannot be opened from where it is stored, None if it can."""
        if artifacts.MANIFEST not in places.names(uri):
            return f"{uri}: there is no whole bundle."
        with places.local_input(uri) as folder:
            try:
                found = artifacts.check(folder, "bundle", contents=True)["fingerprint"]
            except InputError as error:
                return str(error).replace(str(folder), uri)
        return None if found == fingerprint else f"{uri}: it is the bundle {found}, not {fingerprint}."


def strip_of(fingerprint: str) -> str:
    """Return the name of the file with what a champion draws."""
    return f"{PICTURES}/{re.sub('[^0-9a-f]', '', fingerprint)[:16]}.webp"


def now() -> datetime.datetime:
    """Return what the clock says; it may stand still, or have been set back."""
    return datetime.datetime.now(datetime.UTC)


def _told(content: bytes, name: str) -> Told | None:
    try:
        return json_text.parse(content, name, Told)
    except InputError:
        return None


def _time(text: str) -> datetime.datetime | None:
    """Return the time of a stamp, or None where it is none."""
    try:
        time = datetime.datetime.strptime(text, STAMP).replace(tzinfo=datetime.UTC)
    except ValueError:
        return None
    return time if time.year < LAST_YEAR else None


def time_of(name: str) -> datetime.datetime | None:
    """Return the time of a decision from its name, None for a file that is none."""
    match = DECISION.fullmatch(name)
    return _time(match[1]) if match else None


def _short(made_from: Origin | None) -> str:
    return artifacts.fingerprint(made_from)[:16] if made_from else "unknown"

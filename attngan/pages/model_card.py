"""The model card: what a bundle's provenance says, as Markdown with the front matter of Hugging Face's Hub.

Made of recorded facts alone, so the same facts are the same bytes. Captions and names may be a stranger's: every text
is escaped as it is printed (`_printed`), and YAML is written by its library.
"""

import json
import re
import shlex
from typing import Annotated, Any, NamedTuple, NotRequired

import jinja2
from pydantic import Field
from typing_extensions import TypedDict

from attngan.config import yaml_text
from attngan.errors import shown
from attngan.metrics import names
from attngan.runtime import console
from attngan.storage import artifacts

FILE = artifacts.CARD
MADE = "<!-- Written by attngan: edits are lost when it is written again. -->"
FEW_PICTURES = 1_000  # fewer to train on are said to be few
MOST_SHOWN = 8  # captions, pictures
LONGEST = 300  # characters of a text that is shown
LICENSES = frozenset(  # that the Hub knows; any other one is "other", with its name
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 "
    "cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 "
    "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl "
    "gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql "
    "ofl-1.1 ncsa unlicense zlib pddl lgpl-lr unknown".split()
)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)  # of a dataset: owner and name


class Detail(TypedDict):
    """A figure with its conditions; see `metrics.figures.Figure`."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    value: float
    low: float
    high: float
    generated: int
    features: NotRequired[str]
    candidates: NotRequired[int]


class Evaluation(TypedDict, total=False):
    """What `metrics.json` says beside bare figures."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    details: dict[str, Detail]
    not_learnt: list[str]
    broken: list[str]
    findings: list[str]


class Data(TypedDict, total=False):
    """What is known of the pictures that the model is made of."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    dataset: str
    license: str
    source: str
    counts: dict[str, dict[str, int]]  # of each split: images, captions, ...


class Training(TypedDict, total=False):
    """What is known of the adversarial training."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    best: dict[str, Any] | None
    seconds: Annotated[float, Field(ge=0, le=1e9)] | None
    device: str | None


class Drawn(TypedDict):
    """Pictures in the bundle, of its first examples."""

    seed: int
    files: list[Annotated[str, Field(pattern=r"^pictures/[0-9]{2}\.png$")]]


class Facts(TypedDict, total=False):
    """What `provenance.json` of a bundle holds; an older one has less."""

    __pydantic_config__ = {"extra": "allow"}  # noqa: RUF012
    revision: str
    generator: str
    dataset: str | None
    steps: int | None
    imported: dict[str, str] | None
    frozen: str | None
    start_from: str | None
    metrics: dict[str, float] | None
    examples: list[str]
    pictures: Drawn | None
    words: int
    data: Data
    training: Training
    recipe: dict[str, Any]
    evaluation: Evaluation


class Champion(NamedTuple):
    """Where a card stands for the champion of a model folder.

    Attributes:
        model: name of its bundle in the folder, such as "models/0123456789abcdef".
        promoted: when, in words.
    """

    model: str
    promoted: str


class _Ready(str):
    """Text that is Markdown already."""


def text(facts: Facts, champion: Champion | None = None) -> str:
    """Return the model card of a bundle, or that of a model folder whose champion it is."""
    data, recipe, training = facts.get("data", {}), facts.get("recipe", {}), facts.get("training", {})
    captions = [plain(each) for each in facts.get("examples", [])][:MOST_SHOWN]
    drawn, side = facts.get("pictures"), recipe.get("data.resolution")
    at = f"{champion.model}/" if champion else ""
    images = [_Ready(at + file) for file in drawn["files"][:MOST_SHOWN]] if drawn else []
    sentence, seed = _to_try(facts.get("examples", [])), drawn["seed"] if drawn else 1
    values = {
        "front": _Ready(yaml_text.dump(_front(facts))),
        "made": _Ready(MADE),
        "at": _Ready(at),
        "name": data.get("dataset") or "captioned pictures",
        "side": side if isinstance(side, int) else None,
        "facts": facts,
        "data": data,
        "counts": data.get("counts", {}),
        "training": training,
        "best": training.get("best") if recipe.get("watch.result") == "best" else None,
        "duration": console.duration(training["seconds"]) if training.get("seconds") else None,
        "recipe": {key: _setting(value) for key, value in recipe.items()},
        "captions": captions,
        "pictures": list(zip(images, captions, strict=False)),
        "champion": champion,
        "command": _command(champion, sentence, seed),
        "python": _python(champion, sentence, seed),
        "summary": _summary(facts),
        "figures": [_row(metric, whose) for metric, whose in figures(facts).items()],
        "limits": _limits(facts),
    }
    return _TEMPLATES.get_template("model_card.md.j2").render(**values)


def figures(facts: Facts) -> dict[str, dict[str, Detail]]:
    """Return the figures of generated pictures ("") and of controls, by metric; intervals may be missing."""
    found = facts.get("evaluation", {}).get("details", {})
    if not found:
        bare = facts.get("metrics") or {}
        found = {name: Detail(value=value, low=value, high=value, generated=0) for name, value in bare.items()}
    grouped: dict[str, dict[str, Detail]] = {}
    for name, figure in found.items():
        control = next((each for each in names.CONTROLS if name.endswith(f"_{each}")), "")
        metric = name.removesuffix(f"_{control}") if control else name
        if metric not in found:  # the name of a metric that ends so
            metric, control = name, ""
        grouped.setdefault(metric, {})[control] = figure
    return {metric: whose for metric, whose in grouped.items() if "" in whose}


def plain(words: str) -> str:
    """Return a text on one line, of characters that print, and not too long."""
    return shown(" ".join(words[: 2 * LONGEST].split()), LONGEST)


def _front(facts: Facts) -> dict[str, Any]:
    """Return the front matter, whose fields are those of the Hub."""
    data, licence = facts.get("data", {}), plain(facts.get("data", {}).get("license", ""))
    name = plain(data.get("dataset", ""))
    front: dict[str, Any] = {"license": licence.lower() or "unknown"}
    if front["license"] not in LICENSES:
        front = {"license": "other", "license_name": licence}
    front |= {
        "library_name": "attngan",
        "pipeline_tag": "text-to-image",
        "tags": ["attngan", "gan", "arxiv:1711.10485"],
    }
    if HUB_ID.fullmatch(name):
        front["datasets"] = [name]
    measured = figures(facts)
    if not measured:
        return front
    kinds = [next((kind for kind in names.METRICS if _is_kind(metric, kind)), metric) for metric in measured]
    front["metrics"] = [plain(kind) for kind in dict.fromkeys(kinds)]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "captioned-pictures"
    results = {
        "task": {"type": "text-to-image", "name": "text to image"},
        "dataset": {
            "type": name if HUB_ID.fullmatch(name) else slug,
            "name": name or "captioned pictures",
            "split": "test",
        },
        "metrics": [_result(metric, whose[""]) for metric, whose in measured.items()],
    }
    return {**front, "model-index": [{"name": f"attngan-{_short(facts.get('generator', ''))}", "results": [results]}]}


def _is_kind(metric: str, kind: str) -> bool:
    return metric == kind or metric.startswith(f"{kind}_")


def _result(metric: str, figure: Detail) -> dict[str, Any]:
    result = {"type": plain(metric), "value": figure["value"], "name": _title(metric)}
    if figure["generated"]:
        ends = {"low": figure["low"], "high": figure["high"]}
        result["args"] = {"interval": "95 %", **ends, "generated": figure["generated"]}
    return result


def _title(metric: str) -> str:
    return plain(names.words_or_name(metric).title)


def _row(metric: str, whose: dict[str, Detail]) -> dict[str, Any]:
    """Return a row of the table of figures."""
    controls = "; ".join(
        f"{words} {_value(metric, whose[name])}" for name, words in names.CONTROLS.items() if name in whose
    )
    among = whose[""].get("candidates", 0)
    title = _title(metric) + (f", among {among:,} captions" if among else "")
    return {"title": title, "value": _value(metric, whose[""]), "controls": controls}


def _value(metric: str, figure: Detail) -> str:
    """Return a figure, with its interval if it has one."""
    value, low, high = (names.text_of(metric, figure[name]) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if figure["generated"] else value


def _summary(facts: Facts) -> str:
    """Return in a sentence whether the model has learnt."""
    evaluation = facts.get("evaluation")
    if evaluation is None or "not_learnt" not in evaluation:
        return "" if figures(facts) else "Nobody has measured this model."
    if evaluation["not_learnt"]:
        return "The model has not learnt: read its limits."
    return "The model has learnt: its pictures fit their own captions better than those of other pictures."


def _limits(facts: Facts) -> list[str]:
    """Return a sentence for each thing that a user should know before using the model."""
    found = []
    train = facts.get("data", {}).get("counts", {}).get("train", {})
    if pictures := train.get("images"):
        few = "; these are few, so it may repeat them, or draw all alike" if pictures < FEW_PICTURES else ""
        captions = train.get("captions", 0)
        found.append(f"It has seen {pictures:,} pictures with {captions:,} captions, and knows nothing else{few}.")
    if words := facts.get("words"):
        found.append(
            f"It reads {words:,} words, in the letters a to z. Others are left out, and a sentence without any of them "
            "is refused."
        )
    side = facts.get("recipe", {}).get("data.resolution")
    if isinstance(side, int):
        found.append(f"Pictures have {side} x {side} pixels; enlarging them adds nothing.")
    measured = figures(facts)
    for metric, whose in measured.items():
        real = whose.get("real")
        if _is_kind(metric, "precision") and real and whose[""]["high"] < real["low"]:
            share, best = names.text_of(metric, whose[""]["value"]), names.text_of(metric, real["value"])
            found.append(f"Its pictures can be told from real ones: {_title(metric)}, {share}; real ones reach {best}.")
    seen = [whose[""] for metric, whose in measured.items() if metric != names.SECOND_JUDGE]
    if judges := sorted({figure["features"] for figure in seen if _is_judge(figure)}):
        found.append(
            f"It was trained to please the encoders {', '.join(judges)}, which also judge R-precision: of what they "
            "say, believe the differences to controls rather than the values."
        )
    evaluation = facts.get("evaluation", {})
    found += [f"Not learnt: {reason}" for reason in evaluation.get("not_learnt", [])]
    found += [f"Do not trust this metric: {each}" for each in evaluation.get("broken", [])]
    return [*found, *evaluation.get("findings", [])]


def _is_judge(figure: Detail) -> bool:
    return figure.get("features", "").startswith("damsm-")


def _to_try(examples: list[str]) -> str:
    """Return the first sentence that a command can be shown with, as it is but for its spaces."""
    usable = [" ".join(each.split()) for each in examples if not each.lstrip().startswith("-")]
    return next((each for each in usable if each and each == plain(each)), "a small red bird")


def _command(champion: Champion | None, sentence: str, seed: int) -> _Ready:
    where, out = (champion.model, "pictures") if champion else (".", "../pictures")
    return _Ready(f"attngan generate {where} {shlex.quote(sentence)} -n 4 --seed {seed} --out {out}")


def _python(champion: Champion | None, sentence: str, seed: int) -> _Ready:
    where, out = (champion.model, "picture.png") if champion else (".", "../picture.png")
    return _Ready(
        "from pathlib import Path\n\n"
        "from attngan.inference.text_to_image import TextToImage\n"
        "from attngan.pages.pictures import to_pictures\n\n"
        f'model = TextToImage.open(Path("{where}"), kind="bundle")\n'
        f"drawn = next(model.variants({json.dumps(sentence, ensure_ascii=False)}, 1, seed={seed}))\n"
        f'to_pictures(drawn.images[-1])[0].save("{out}")'
    )


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(fingerprint: str) -> str:
    return re.sub(r"[^0-9a-f]", "", fingerprint)[:16] or "unknown"


_ESCAPES = {
    **{ord(each): f"\\{each}" for each in "\\`*_[]#|~$@^!"},
    **dict(zip(b"&<>", ("&amp;", "&lt;", "&gt;"), strict=True)),
}
_LINKS = re.compile(r":(?=//)|(?<=www)\.", re.IGNORECASE)  # what Markdown of GitHub makes links of
_LISTS = re.compile(r"^(\d*)([-+.)])(?=[-\s]|$)")  # what begins a list


def _printed(value: Any) -> Any:
    """Return a value as Markdown shows it: no markup, no HTML and no link comes out of a text."""
    if isinstance(value, _Ready) or not isinstance(value, str):
        return value
    escaped = _LISTS.sub(r"\1\\\2", plain(value).translate(_ESCAPES))
    return _LINKS.sub(lambda found: f"\\{found[0]}", escaped)


_TEMPLATES = jinja2.Environment(  # what an older bundle does not say is empty
    loader=jinja2.PackageLoader("attngan.pages", "templates"),
    finalize=_printed,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

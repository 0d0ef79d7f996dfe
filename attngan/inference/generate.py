"""Drawing sentences with a trained bundle."""

import dataclasses
import hashlib
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from attngan.config.bounds import MOST
from attngan.config.settings import Config
from attngan.data.captions import words_of
from attngan.data.sources.source_files import lines_of
from attngan.errors import InputError, shown
from attngan.inference.bundle import find_bundle
from attngan.inference.text_to_image import Picture, TextToImage, check_truncation
from attngan.pages import pictures
from attngan.pages.contact_sheet import of_sentences
from attngan.runtime import acceleration
from attngan.runtime.console import progress, say
from attngan.storage.delivery import Files
from attngan.storage.uris import check_apart

SLUG_CHARACTERS = 60
GRID_COLUMNS, GRID_PICTURES = 8, 64  # the sheet of a sentence shows the first ones
CONTACT_SHEET = "contact-sheet.png"
CONTACT_ROWS, CONTACT_COLUMNS = 200, 8  # and so does the sheet of all sentences
MISTAKES_SHOWN = 20  # of one file; the others are counted


def generate(
    bundle: Path,
    caption: str | None,
    out: Path | Files,
    *,
    captions: Path | None = None,
    num_images: int,
    seed: int,
    truncation: float = 1.0,
    contact_sheet: bool = False,
    device: str = "cpu",
) -> list[Path]:
    """Draw a sentence, or each one of a file, several times, each time from other noise.

    Each picture is written as it is drawn, under a name of sentence, seed and number (and truncation, if there is one);
    those that an earlier run drew are not drawn again.

    Args:
        bundle: folder of `export_samples`, or one that holds it as `bundle`, as a run's or an import's does.
        caption: any text of which the model knows a word; the others are named on the console.
        out: folder for the pictures, here or in cloud storage; what is there already stays.
        captions: a text file with a sentence a line, in the place of `caption`; blank lines are skipped.
        num_images: how many of each sentence.
        seed: the same seed draws the same pictures; picture k is the same for any `num_images`.
        truncation: of the noise, as of `text_to_image.truncated`.
        contact_sheet: adds one sheet of all sentences, in the place of an older one.
        device: "auto", "cpu", "cuda".

    Returns:
        The PNG files: of each sentence its pictures and, of several, a sheet of the first of them, then the contact
        sheet. Each says in its metadata what drew it, and of what.

    Raises:
        InputError: the bundle is none, the device is not there, the model knows no word of a sentence, or a file of
            something else has the name of a picture.
    """
    check_truncation(truncation)
    sentences = _sentences(caption, captions, num_images)
    folder = find_bundle(bundle)
    to = out if isinstance(out, Files) else Files(out)
    check_apart([to.folder], [folder])
    model = TextToImage.open(folder, kind="bundle", device=acceleration.set_up_device(Config(device=device)))
    _check_known(model, sentences, captions)  # a sentence without a known word leaves no folder
    files = [_files(to.folder, each, num_images, seed, truncation, model.fingerprint) for each in sentences.values()]
    paths, sheets = [path for each in files for path in each.about], [to.folder / CONTACT_SHEET] * contact_sheet
    to.fetch([*paths, *sheets])
    for sheet in sheets:
        _check_contact_sheet(sheet)
    _draw(model, to, files)
    for sheet in sheets:
        _write_contact_sheet(sheet, files)
    to.send(sheets)
    return [*paths, *sheets]


@dataclasses.dataclass(frozen=True)
class _Files:
    """What is written of a sentence: a file each picture, and of several a sheet of the first ones."""

    caption: str
    pictures: dict[Path, Picture]
    sheet: Path | None
    about: dict[Path, dict[str, str | int]]  # what each file says of itself


def _sentences(caption: str | None, captions: Path | None, num_images: int) -> dict[str, str]:
    """Return what is to be drawn by where it stands ("" or "line 3"), each sentence once."""
    if (caption is None) == (captions is None):
        found = "neither" if caption is None else "both"
        raise InputError(f"expected a sentence, or a file of sentences as --captions, found {found}; give one of them.")
    if captions is None:
        return {"": caption or ""}
    first: dict[str, str] = {}
    for number, line in enumerate(lines_of(captions), start=1):
        sentence, place = line.strip(), f"line {number}"
        if "\0" in sentence:
            raise InputError(f"{captions}: {place}: expected text, found NUL in it.")
        if sentence and first.setdefault(sentence, place) != place:
            say(f"{place}: the sentence of {first[sentence]} again; it is drawn once")
    if not first:
        raise InputError(f"{captions}: expected a sentence a line, found none.")
    if len(first) * num_images > MOST:
        raise InputError(
            f"{captions}: {len(first):,} sentences of {num_images:,} pictures; at most {MOST:,} are drawn."
        )
    return {place: sentence for sentence, place in first.items()}


def _check_known(model: TextToImage, sentences: Mapping[str, str], captions: Path | None) -> None:
    """Say what of the sentences is not understood, and refuse all of which nothing is, in one sentence."""
    if captions is None:
        model.read([*sentences.values()])
    wrong = [
        f"{place} ({shown(repr(sentence))})"
        for place, sentence in sentences.items()
        if not model.vocabulary.encode(words_of(sentence))
    ]
    if wrong:
        more = f" and {len(wrong) - MISTAKES_SHOWN:,} more" if len(wrong) > MISTAKES_SHOWN else ""
        words = model.vocabulary.words[1:]
        named = ", ".join(wrong[:MISTAKES_SHOWN]) + more
        raise InputError(
            f"{captions}: {named}: none of the words is among the {len(words):,} that the model knows "
            f"({', '.join(words[:8])}, ...); say it in other words."
        )
    for place, sentence in sentences.items():
        for note in model.notes(sentence):
            say(f"{place}: {note}" if place else note)


def _files(out: Path, caption: str, num_images: int, seed: int, truncation: float, bundle: str) -> _Files:
    """Name the files of a sentence."""
    noise = {} if truncation == 1 else {"truncation": str(truncation)}
    name = "-".join([slug(caption), "seed", str(seed), *(f"{key}-{value}" for key, value in noise.items())])
    drawn = {
        out / f"{name}-{number:03d}.png": Picture(caption, number, seed, truncation) for number in range(num_images)
    }
    sheet = out / f"{name}-grid-of-{num_images}.png" if num_images > 1 else None
    more: dict[Path, dict[str, int]] = {path: {"variant": each.number} for path, each in drawn.items()}
    if sheet:
        more[sheet] = {"pictures": num_images}
    about = {path: pictures.origin(caption, seed, bundle, **noise, **each) for path, each in more.items()}
    return _Files(caption, drawn, sheet, about)


def _draw(model: TextToImage, to: Files, files: Sequence[_Files]) -> None:
    """Draw what is missing, and lay it out in sheets."""
    about = {path: origin for each in files for path, origin in each.about.items()}
    done = {path for path in about if _is_drawn(path, about[path])}
    for path in about.keys() - done:
        path.unlink(missing_ok=True)  # cut off, but it says that it is this picture
    to.folder.mkdir(parents=True, exist_ok=True)
    wanted = {path: picture for each in files for path, picture in each.pictures.items()}
    missing = [path for path in wanted if path not in done]
    with progress("drawing", total=len(wanted), unit="pictures", start=len(wanted) - len(missing)) as advance:
        paths = iter(missing)
        for generated in model.in_batches([wanted[path] for path in missing]):
            drawn = pictures.to_pictures(generated.images[-1])
            batch = list(itertools.islice(paths, len(drawn)))
            for picture, path in zip(drawn, batch, strict=True):
                _save(picture, path, about[path])
                advance(1)
            to.send(batch)
    for each in files:
        if each.sheet and each.sheet not in done:
            _save(_sheet([*each.pictures][:GRID_PICTURES]), each.sheet, about[each.sheet])
            to.send([each.sheet])


def slug(caption: str) -> str:
    """Return a file name's part for a sentence; sentences that are written differently have different ones."""
    plain = "-".join(re.findall(r"[a-z0-9]+", caption.lower()))
    short = plain[:SLUG_CHARACTERS].strip("-")
    if short.replace("-", " ") == caption:
        return short
    return "-".join(filter(None, [short, hashlib.sha256(caption.encode()).hexdigest()[:8]]))


def _save(picture: Image.Image, path: Path, about: Mapping[str, str | int]) -> None:
    """Write a picture, unless another run has drawn it meanwhile; what else came there stays, and is an InputError."""
    try:
        pictures.save(picture, path, about, replaces=False)
    except FileExistsError:
        _is_drawn(path, about)


def _is_drawn(path: Path, about: Mapping[str, str | int]) -> bool:
    """Return whether a picture is there, whole; InputError where something else has its name."""
    if not os.path.lexists(path):
        return False
    wanted = {keyword: str(text) for keyword, text in about.items() if keyword != "Software"}
    found: dict[str, str | None] = {}
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            found = {keyword: picture.info.get(keyword) for keyword in wanted}
            if found == wanted:
                picture.load()
    except Exception:  # whatever a file that is no whole PNG makes of it
        if found == wanted:
            return False
    if found == wanted:
        return True
    others = "another bundle drew it" if {**found, "bundle": ""} == {**wanted, "bundle": ""} else "it is something else"
    raise InputError(f"{path}: expected nothing there, or this picture, but {others}; move it, or name another --out.")


def _sheet(paths: list[Path]) -> Image.Image:
    """Lay out pictures that were drawn."""
    drawn = _opened(paths)
    return pictures.grid([drawn[start : start + GRID_COLUMNS] for start in range(0, len(drawn), GRID_COLUMNS)])


def _opened(paths: Sequence[Path]) -> list[Image.Image]:
    drawn = []
    for path in paths:
        with Image.open(path) as picture:
            drawn.append(picture.convert("RGB"))
    return drawn


def _check_contact_sheet(path: Path) -> None:
    """Refuse to replace what is no contact sheet of ours."""
    if not os.path.lexists(path):
        return
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            is_ours = "contact sheet" in picture.info
    except Exception:  # whatever a file that is no PNG makes of it
        is_ours = False
    if not is_ours:
        raise InputError(f"{path}: expected nothing there, or a contact sheet; move it, or name another --out.")


def _write_contact_sheet(path: Path, files: Sequence[_Files]) -> None:
    """Lay out the first pictures of the first sentences."""
    shown_files = files[:CONTACT_ROWS]
    if len(shown_files) < len(files):
        say(f"{path.name}: shows the first {CONTACT_ROWS:,} of {len(files):,} sentences")
    rows = [(each.caption, _opened([*each.pictures][:CONTACT_COLUMNS])) for each in shown_files]
    about = {name: text for name, text in next(iter(files[0].about.values())).items() if name != "variant"}
    about |= {"caption": "\n".join(each.caption for each in shown_files), "pictures": len(files[0].pictures)}
    pictures.save(of_sentences(rows), path, {**about, "contact sheet": f"of {len(files)} sentences"})

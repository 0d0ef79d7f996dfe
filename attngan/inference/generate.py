"""Drawing a sentence with a trained bundle."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from attngan.errors import InputError
from attngan.inference.bundle import find_bundle
from attngan.inference.text_to_image import TextToImage
from attngan.pages import pictures
from attngan.runtime.console import progress, say
from attngan.storage.result_folder import check_apart

SLUG_CHARACTERS = 60
GRID_COLUMNS, GRID_PICTURES = 8, 64  # the sheet shows the first ones


def generate(bundle: Path, caption: str, out: Path, *, num_images: int, seed: int) -> list[Path]:
    """Draw one sentence several times, each time from other noise.

    Each picture is written as it is drawn, under a name of sentence, seed and number; those that an earlier run drew
    are not drawn again.

    Args:
        bundle: folder of `export_samples`, or one that holds it as `bundle`, as a run's or an import's does.
        caption: any text of which the model knows a word; the others are named on the console.
        out: folder for the pictures; what is there already stays.
        num_images: how many.
        seed: the same seed draws the same pictures; picture k is the same for any `num_images`.

    Returns:
        The PNG files: each picture, then a sheet of the first of them. Each says in its metadata what drew it, and of
        what.

    Raises:
        InputError: the bundle is none, the model knows no word of the sentence, or a file of something else has the
            name of a picture.
    """
    folder = find_bundle(bundle)
    check_apart([out], [folder])
    model = TextToImage.open(folder, kind="bundle")
    for note in model.notes(caption):
        say(note)
    model.read([caption])  # a sentence without a known word leaves no folder
    name = f"{slug(caption)}-seed-{seed}"
    files = {out / f"{name}-{number:03d}.png": {"variant": number} for number in range(num_images)}
    sheet = out / f"{name}-grid-of-{num_images}.png"
    about = {
        path: pictures.origin(caption, seed, model.fingerprint, **more)
        for path, more in {**files, sheet: {"pictures": num_images}}.items()
    }
    done = {path for path in about if _is_drawn(path, about[path])}
    for path in about.keys() - done:
        path.unlink(missing_ok=True)  # cut off, but it says that it is this picture
    out.mkdir(parents=True, exist_ok=True)
    paths = list(files)
    missing = [number for number, path in enumerate(paths) if path not in done]
    with progress("drawing", total=num_images, unit="pictures", start=num_images - len(missing)) as advance:
        numbers = iter(missing)
        for generated in model.variants(caption, missing, seed):
            for picture in pictures.to_pictures(generated.images[-1]):
                path = paths[next(numbers)]
                _save(picture, path, about[path])
                advance(1)
    if sheet not in done:
        _save(_sheet(paths[:GRID_PICTURES]), sheet, about[sheet])
    return [*paths, sheet]


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
    drawn = []
    for path in paths:
        with Image.open(path) as picture:
            drawn.append(picture.convert("RGB"))
    return pictures.grid([drawn[start : start + GRID_COLUMNS] for start in range(0, len(drawn), GRID_COLUMNS)])

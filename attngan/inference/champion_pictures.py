"""What a champion draws of the sentences of its model folder: the same ones for every champion, so they compare."""

import contextlib
import io
import json
from pathlib import Path

from PIL import Image

from attngan.errors import Changed, InputError
from attngan.inference.bundle import examples
from attngan.inference.text_to_image import TextToImage
from attngan.pages import pictures
from attngan.runtime.console import say
from attngan.storage import json_text, places, uris
from attngan.storage.champion import PICTURES, SENTENCES, ModelFolder, strip_of

COUNT = 6  # sentences
SIDE = 128  # pixels of a picture, at most
SEED = 1
NOTHING = (128, 128, 128)  # where the model knows no word of a sentence


def draw(folder: ModelFolder, bundle: Path, fingerprint: str) -> None:
    """Keep what a bundle draws in the folder, unless that is there; say why where it cannot draw.

    The first bundle with examples gives the sentences. To begin with others, remove `pictures/` of the folder.
    """
    try:
        if strip_of(fingerprint) in [f"{PICTURES}/{name}" for name in places.names(uris.join(folder.uri, PICTURES))]:
            return
        model, sentences = TextToImage.open(bundle, kind="bundle"), _sentences(folder, bundle)
        if sentences:
            _write_once(uris.join(folder.uri, strip_of(fingerprint)), _strip(model, sentences))
    except (InputError, OSError) as error:
        say(f"no pictures of {fingerprint[:16]} on the page of the model folder: {error}")


def _sentences(folder: ModelFolder, bundle: Path) -> list[str]:
    """Return the sentences of the folder, which are the first examples of its first bundle."""
    uri = uris.join(folder.uri, SENTENCES)
    if not places.read(uri)[1] and (found := examples(bundle)[:COUNT]):
        _write_once(uri, json.dumps(found, indent=2).encode())
    content, is_there = places.read(uri)  # somebody else's, who was faster
    mend = "remove the folder around it: then the next champion gives others"
    return json_text.parse(content, uri, list[str], expected="a list of sentences", mend=mend) if is_there else []


def _strip(model: TextToImage, sentences: list[str]) -> bytes:
    """Return a picture of each sentence, side by side."""
    side = min(SIDE, model.generator.resolutions[-1])
    cells = [_cell(model, sentence, side) for sentence in sentences]
    if not any(cells):
        raise InputError("it knows no word of the folder's sentences.")
    sheet = pictures.grid([[cell or Image.new("RGB", (side, side), NOTHING) for cell in cells]], gap=0)
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def _cell(model: TextToImage, sentence: str, side: int) -> Image.Image | None:
    try:
        drawn = next(model.variants(sentence, 1, SEED))
    except InputError:  # none of its words is known
        return None
    return pictures.to_pictures(drawn.images[-1])[0].resize((side, side), Image.Resampling.LANCZOS)


def _write_once(uri: str, content: bytes) -> None:
    with contextlib.suppress(Changed):
        places.write(uri, content, generation=0)

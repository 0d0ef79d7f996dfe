"""An open bundle that draws for many: one drawing at a time, a short queue, counts; what it refuses, and why."""

import codecs
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from attngan.errors import InputError
from attngan.inference.text_to_image import TextToImage
from attngan.pages import pictures
from attngan.pages.pictures import attention_overlays
from attngan.storage import json_text

if TYPE_CHECKING:
    from fastapi import Request


SHOWN_WORDS = 6  # those attended to most
SHOWN_SIDE = 256  # pixels of an overlay, at least
MAX_BODY = 64 * 1024  # bytes of a request
MAX_CAPTION = 1000  # characters
MAX_WAITING = 8  # drawings in the queue
RETRY_SECONDS = 5
LATE = "the request did not arrive whole, or not in time; send it again."
SHOWN = 120  # characters of a request's text in an answer that refuses it


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What came of a caption.

    Args:
        pictures: each variant at the model's own size, the same as `attngan generate` draws.
        overlays: for each variant the words attended to most, with the picture lit where each is attended to; none
            where the generator has one stage.
        notes: what was not understood.
    """

    pictures: list[Image.Image]
    overlays: list[list[tuple[str, Image.Image]]]
    notes: list[str]


def draw(model: TextToImage, caption: str, *, num_images: int, seed: int) -> Drawn:
    """Draw a caption several times, each from other noise; InputError where the model knows none of its words."""
    words = model.vocabulary.decode(model.read([caption])[0][0].tolist())
    drawn, overlays = [], []
    for generated in model.variants(caption, num_images, seed):
        drawn += pictures.to_pictures(generated.images[-1])
        large = pictures.to_pictures(generated.images[-1], side=max(SHOWN_SIDE, generated.images[-1].shape[-1]))
        attention = generated.attention[-1] if generated.attention else [None] * len(large)
        overlays += [
            [] if maps is None else attention_overlays(maps, words, picture, SHOWN_WORDS)
            for maps, picture in zip(attention, large, strict=True)
        ]
    return Drawn(drawn, overlays, model.notes(caption))


class Refused(Exception):
    """A request that is not answered: status and one sentence, on one line whatever of the request is in it."""

    def __init__(self, status: int, sentence: str):
        self.status, self.sentence = status, " ".join(sentence.split())
        super().__init__(self.sentence)


@dataclasses.dataclass
class Counts:
    """What `/metrics` tells."""

    requests: Counter = dataclasses.field(default_factory=Counter)  # (path, status) -> how many
    pictures: int = 0
    drawings: int = 0
    seconds: float = 0.0
    waiting: int = 0

    def text(self) -> str:
        """Return the counts in Prometheus' text format."""
        lines = ["# TYPE attngan_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'attngan_requests_total{{path="{path}",status="{status}"}} {count}')
        for name, kind, value in (
            ("attngan_pictures_total", "counter", self.pictures),
            ("attngan_drawing_seconds_sum", "counter", round(self.seconds, 6)),
            ("attngan_drawing_seconds_count", "counter", self.drawings),
            ("attngan_drawings_in_flight", "gauge", self.waiting),
        ):
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
        return "\n".join(lines) + "\n"


class DrawingQueue:
    """The open bundle, and its queue.

    Args:
        folder: the bundle.
        name: of the model, in KServe's protocol.
        device: where it draws.
        max_images: pictures of one request.
    """

    def __init__(self, folder: Path, *, name: str, device: str, max_images: int):
        self.model = TextToImage.open(folder, kind="bundle", device=device)
        self.name, self.max_images = name, max_images
        self.counts = Counts()
        self._drawing, self._queue = threading.Lock(), threading.BoundedSemaphore(MAX_WAITING + 1)

    def draw(self, caption: str, num_images: int, seed: int) -> Drawn:
        """Draw a caption when its turn comes; `Refused` says why not."""
        if len(caption) > MAX_CAPTION:
            raise Refused(422, f"caption: {len(caption):,} characters, at most {MAX_CAPTION:,} are read; shorten it.")
        if not 1 <= num_images <= self.max_images:
            raise Refused(422, f"num_images: {num_images}, expected 1 to {self.max_images}.")
        if not 0 <= seed < 2**63:
            raise Refused(422, f"seed: {seed}, expected a number from 0.")
        with self._turn():
            started = time.perf_counter()
            try:
                drawn = draw(self.model, caption, num_images=num_images, seed=seed)
            except InputError as error:
                raise Refused(422, str(error)) from None
            self.counts.seconds += time.perf_counter() - started
            self.counts.drawings += 1
            self.counts.pictures += num_images
            return drawn

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._queue.acquire(blocking=False):
            raise Refused(503, f"{MAX_WAITING} drawings are waiting already; try again in {RETRY_SECONDS} seconds.")
        self.counts.waiting += 1
        try:
            with self._drawing:
                yield
        finally:
            self.counts.waiting -= 1
            self._queue.release()


async def read_json(request: "Request") -> dict[str, Any]:
    """Return a request's JSON object; `Refused` where it is longer than allowed, whatever its header says, or none."""
    from starlette.requests import ClientDisconnect

    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Refused(413, f"the request is longer than {MAX_BODY:,} bytes; send less.")
    except ClientDisconnect:
        raise Refused(408, LATE) from None
    text = bytes(body).removeprefix(codecs.BOM_UTF8)  # which some clients put before it
    try:
        return json_text.parse(text, "request", dict[str, Any], expected="a JSON object", mend="send one")
    except InputError as error:
        raise Refused(400, str(error)) from None

"""An open bundle that draws for many: what waits is drawn together; a short queue, counts; what it refuses, and why."""

import codecs
import dataclasses
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from attngan.errors import InputError
from attngan.inference.bundle import examples
from attngan.inference.text_to_image import Picture, TextToImage
from attngan.pages import pictures
from attngan.pages.pictures import attention_overlays
from attngan.storage import json_text

if TYPE_CHECKING:
    from fastapi import Request


Row = tuple[Tensor, Tensor | None]  # image and attention of a picture

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


@dataclasses.dataclass
class Wanted:
    """Pictures that wait to be drawn, in their order.

    Args:
        pictures: all of them.
        drawn: what `draw` returned of each one so far.
        error: why no more come.
    """

    pictures: Sequence[Picture]
    drawn: list[Row] = dataclasses.field(default_factory=list)
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether no more come."""
        return self.error is not None or len(self.drawn) == len(self.pictures)


def draw(model: TextToImage, wanted: Sequence[Picture]) -> list[Row]:
    """Draw pictures in one pass, each the same as if it were drawn alone, but for the last bits.

    Returns:
        Of each picture its image (3, H, W) in [-1, 1] and the attention (T, H, W) of the last stage, in which its
        caption's words come first; None where the generator has one stage.
    """
    generated = model.draw_together(wanted)
    images = generated.images[-1].cpu()
    attention = generated.attention[-1].cpu() if generated.attention else [None] * len(images)
    return list(zip(images, attention, strict=True))


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

    Whoever waits with nobody drawing draws the pictures that have waited longest, its own or others', in one pass of
    the model's `batch_size`. A picture is the same whatever is drawn beside it, but for the last bits.

    Args:
        folder: the bundle.
        name: of the model, in KServe's protocol.
        device: where it draws.
        max_images: pictures of one request.
    """

    def __init__(self, folder: Path, *, name: str, device: str, max_images: int):
        self.model = TextToImage.open(folder, kind="bundle", device=device)
        self.examples = [each for each in examples(folder) if len(each) <= MAX_CAPTION]
        self.name, self.max_images = name, max_images
        self.counts = Counts()
        self._queue = threading.BoundedSemaphore(MAX_WAITING + 1)
        self._changed = threading.Condition()  # guards what stands below, and the counts
        self._waiting: list[Wanted] = []
        self._is_drawing = False

    def draw(self, caption: str, num_images: int, seed: int) -> Drawn:
        """Draw a caption several times, each from other noise, when its turn comes; `Refused` says why not."""
        self._check_length(caption)
        if not 1 <= num_images <= self.max_images:
            raise Refused(422, f"num_images: {num_images}, expected 1 to {self.max_images}.")
        words = self._words(caption, seed)
        with self._place():
            drawn = self._drawn([Picture(caption, number, seed) for number in range(num_images)])
            images = torch.stack([image for image, _ in drawn])
            large = pictures.to_pictures(images, side=max(SHOWN_SIDE, images.shape[-1]))
            overlays = [
                [] if maps is None else attention_overlays(maps[: len(words)], words, picture, SHOWN_WORDS)
                for (_, maps), picture in zip(drawn, large, strict=True)
            ]
        return Drawn(pictures.to_pictures(images), overlays, self.model.notes(caption))

    def draw_each(self, captions: Sequence[str], seed: int) -> list[Image.Image]:
        """Draw some captions once each, when their turn comes; `Refused` says why not."""
        for caption in captions:
            self._check_length(caption)
            self._words(caption, seed)
        with self._place():
            drawn = self._drawn([Picture(caption, 0, seed) for caption in captions])
        return pictures.to_pictures(torch.stack([image for image, _ in drawn]))

    def _check_length(self, caption: str) -> None:
        if len(caption) > MAX_CAPTION:
            raise Refused(422, f"caption: {len(caption):,} characters, at most {MAX_CAPTION:,} are read; shorten it.")

    def _words(self, caption: str, seed: int) -> list[str]:
        """Return the words of a caption that are read, if it and a seed can be drawn."""
        if not 0 <= seed < 2**63:
            raise Refused(422, f"seed: {seed}, expected a number from 0.")
        try:
            return self.model.vocabulary.decode(self.model.read([caption])[0][0].tolist())
        except InputError as error:
            raise Refused(422, str(error)) from None

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Hold one of the few places of those who wait."""
        if not self._queue.acquire(blocking=False):
            raise Refused(503, f"{MAX_WAITING} drawings are waiting already; try again in {RETRY_SECONDS} seconds.")
        try:
            with self._changed:
                self.counts.waiting += 1
            yield
        finally:
            with self._changed:
                self.counts.waiting -= 1
            self._queue.release()

    def _drawn(self, wanted: Sequence[Picture]) -> list[Row]:
        """Wait until pictures are drawn, by others or, whenever nobody else is at it, by this thread."""
        own = Wanted(wanted)
        with self._changed:
            self._waiting.append(own)
        while not own.is_done:
            with self._changed:
                self._changed.wait_for(lambda: own.is_done or not self._is_drawing)
                if own.is_done:
                    break
                self._is_drawing = True
                batch = self._next_batch()
            self._draw_batch(batch)
        if own.error is not None:
            raise own.error
        return own.drawn

    def _next_batch(self) -> list[tuple[Wanted, Sequence[Picture]]]:
        """Return the pictures that wait longest, no more than are drawn together, by whose they are."""
        batch, room = [], self.model.batch_size
        for each in self._waiting:
            part = each.pictures[len(each.drawn) :][:room]
            room -= len(part)
            if part:
                batch.append((each, part))
        return batch

    def _draw_batch(self, batch: Sequence[tuple[Wanted, Sequence[Picture]]]) -> None:
        """Draw, hand out what was drawn, and leave the turn to the next one."""
        started = time.perf_counter()
        results = self._results(batch)
        with self._changed:
            self.counts.seconds += time.perf_counter() - started
            for (each, part), result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    each.error = result
                else:
                    each.drawn += result
                    self.counts.pictures += len(part)
                    self.counts.drawings += sum(picture.number == 0 for picture in part)  # the first one of a caption
            self._waiting = [each for each in self._waiting if not each.is_done]
            self._is_drawing = False
            self._changed.notify_all()

    def _results(self, batch: Sequence[tuple[Wanted, Sequence[Picture]]]) -> list[list[Row] | Exception]:
        """Return what is drawn of each part; where drawing fails, each is drawn by itself, and has its own error."""
        try:
            rows = iter(draw(self.model, [picture for _, part in batch for picture in part]))
        except Exception as error:
            return [error] if len(batch) == 1 else [result for each in batch for result in self._results([each])]
        return [list(itertools.islice(rows, len(part))) for _, part in batch]


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

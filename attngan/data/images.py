"""Picture files -> pixels to store: decoded safely, cropped to the bird, resized."""

import collections
import contextlib
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch.nn import functional

from attngan.data.records import Box, Record
from attngan.data.sources import source_files
from attngan.runtime import machine

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # no format that starts another program
MAX_PIXELS = 80_000_000  # of one picture; more is taken for a decompression bomb
WORKER_BYTES = 2 * 2**30  # of memory; one of MAX_PIXELS with transparency takes 1.5 GiB while it is prepared
MIN_SIDE = 8  # pixels of the crop's shorter side
MAX_BOX = 1e9  # pixels; not-a-number and infinity are not below it
MAX_ASPECT = 2  # longer pictures keep their central part
REDUCIBLE = ("JPEG", "MPO")  # formats that can be decoded at a half, a quarter or an eighth of their size
REDUCING_GAP = 2  # a JPEG is decoded smaller as long as so many times the side that is stored are left


class UnusableImage(Exception):
    """Why one picture cannot be used; it is recorded, and the others go on."""


def stored_side(resolution: int) -> int:
    """Return the shorter side that is stored for training at `resolution`: room for random crops (256 -> 304)."""
    return int(resolution * 76 / 64)


def prepare(
    path: Path, box: Box | None, resolution: int, *, on_cut_box: Callable[[], object] = lambda: None
) -> np.ndarray:
    """Return a picture's pixels as they are stored, (H, W, 3) uint8 with a shorter side of `stored_side(resolution)`.

    A JPEG that is much larger than needed is decoded at a half, a quarter or an eighth of its size.

    Args:
        path: the picture file.
        box: around the bird, in the upright picture; None takes the whole picture.
        resolution: side of the finest picture trained on.
        on_cut_box: called where the box reaches out of the picture, so that only a part of it is used.

    Raises:
        UnusableImage: the file or the box cannot be used.
    """
    side = stored_side(resolution)
    with _opened(path) as picture:
        if picture.format in REDUCIBLE:
            full_size = _upright_size(picture)
            part = _part(box, full_size)
            factor = _decode_smaller(picture, int(_short_side(part) / (REDUCING_GAP * side)))
            pixels = np.asarray(_upright(picture))
        else:
            pixels = np.asarray(_upright(picture))
            full_size, factor = (pixels.shape[1], pixels.shape[0]), 1
            part = _part(box, full_size)
        if box is not None and reaches_out(box, full_size):
            on_cut_box()
        left, top, right, bottom = part
        size = tuple(int(side * length / _short_side(part)) for length in (bottom - top, right - left))
        pixels = pixels[top // factor : -(-bottom // factor), left // factor : -(-right // factor)]
        batch = torch.from_numpy(pixels.copy())[None].permute(0, 3, 1, 2)  # channels last: resized as they lie
        resized = functional.interpolate(batch, size, mode="bilinear", antialias=True)  # six times Pillow's speed
        return resized.permute(0, 2, 3, 1)[0].contiguous().numpy()


def decode(path: Path) -> Image.Image:
    """Read a picture of any usual kind as upright 8-bit RGB; what is transparent becomes white.

    Raises:
        UnusableImage: missing, cut off, not a picture, or absurdly large.
    """
    with _opened(path) as picture:
        return _upright(picture)


def shorter_side(path: Path, box: Box | None) -> int:
    """Return how many pixels of a picture there are on the shorter side of what would be stored, without decoding it.

    Raises:
        UnusableImage: as for `prepare`, as far as the file's beginning shows it.
    """
    with _opened(path) as picture:
        return _short_side(_part(box, _upright_size(picture)))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture file for the block, which may decode it; whatever goes wrong with it is an UnusableImage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata, which nobody here needs
            with source_files.opened(path) as file, Image.open(file, formats=FORMATS) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise UnusableImage(
                        f"{picture.width} x {picture.height} pixels are more than {MAX_PIXELS:,}: a decompression bomb?"
                    )
                yield picture
    except UnusableImage:
        raise
    except source_files.Unreadable as error:
        raise UnusableImage(error.reason) from None
    except Image.UnidentifiedImageError:
        raise UnusableImage("not a picture that can be read (JPEG, PNG, WebP, GIF, BMP or TIFF)") from None
    except Image.DecompressionBombError:
        raise UnusableImage(f"more than {MAX_PIXELS:,} pixels: a decompression bomb?") from None
    except Exception as error:  # a decoder fed with garbage may raise anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UnusableImage(f"cannot be decoded ({reason})") from None


def _part(box: Box | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return which part of a picture is stored: left, top, right, bottom in pixels."""
    left, top, right, bottom = (0, 0, *size) if box is None else crop_around(box, size)
    central = central_part((right - left, bottom - top))
    left, top, right, bottom = left + central[0], top + central[1], left + central[2], top + central[3]
    width, height = right - left, bottom - top
    if min(width, height) < MIN_SIDE:
        raise UnusableImage(f"only {width} x {height} pixels are left; at least {MIN_SIDE} x {MIN_SIDE} are needed")
    return left, top, right, bottom


def _upright_size(picture: Image.Image) -> tuple[int, int]:
    """Return width and height of a JPEG that is not decoded yet, as they are once it is upright."""
    is_turned = picture.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (picture.height, picture.width) if is_turned else picture.size


def _short_side(part: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = part
    return min(right - left, bottom - top)


def _decode_smaller(picture: Image.Image, factor: int) -> int:
    """Let a JPEG that is not decoded yet be decoded smaller, by 1, 2, 4 or 8, at most `factor`; return by how much."""
    if factor < 2:
        return 1
    width = picture.width
    picture.draft(None, (width // factor, picture.height // factor))
    return round(width / picture.width)


def crop_around(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the square around the bird, clipped to the picture (released code: datasets.py, get_imgs).

    Args:
        box: x, y, width, height of the bounding box.
        size: width and height of the picture.

    Returns:
        left, top, right, bottom in pixels.

    Raises:
        UnusableImage: the box has no size, or lies outside the picture.
    """
    x, y, width, height = box
    stated = f"bounding box {', '.join(f'{value:g}' for value in box)}"
    if not all(abs(value) < MAX_BOX for value in box) or width <= 0 or height <= 0:
        raise UnusableImage(f"{stated}: expected four numbers of pixels, with a width and height above 0")
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        raise UnusableImage(f"{stated} lies outside the picture of {size[0]} x {size[1]} pixels")
    radius = int(0.75 * max(width, height))
    centre_x, centre_y = int((2 * x + width) / 2), int((2 * y + height) / 2)
    left, right = max(0, centre_x - radius), min(size[0], centre_x + radius)
    top, bottom = max(0, centre_y - radius), min(size[1], centre_y + radius)
    if left >= right or top >= bottom:
        raise UnusableImage(f"{stated} leaves nothing of the picture of {size[0]} x {size[1]} pixels")
    return left, top, right, bottom


def reaches_out(box: Box, size: tuple[int, int]) -> bool:
    """Return whether a pixel or more of a box lies outside of the picture; less is rounding."""
    x, y, width, height = box
    return min(x, y) <= -1 or x + width >= size[0] + 1 or y + height >= size[1] + 1


def central_part(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the central part that is at most `MAX_ASPECT` times as long as it is short: left, top, right, bottom."""
    longest = MAX_ASPECT * min(size)
    width, height = (min(length, longest) for length in size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return left, top, left + width, top + height


def _upright(picture: Image.Image) -> Image.Image:
    """Decode a picture, turn it as its metadata says, and make it RGB; what is transparent becomes white."""
    picture.load()
    if picture.format != "TIFF":  # which Pillow turns while it decodes
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(picture).astype(np.int64).clip(0, 65535)
        return Image.fromarray((grey // 257).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise UnusableImage("floating point pixels, whose range nobody knows; expected 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def prepare_all(
    records: Iterable[Record],
    resolution: int,
    *,
    on_cut_box: Callable[[Record], object] = lambda record: None,
) -> Iterator[tuple[Record, np.ndarray | str]]:
    """Give each record with its pixels, or with why it has none, in the order of the records.

    Threads do: Pillow decodes and resizes outside the interpreter's lock. There are as many as there are cores, and
    memory for the largest pictures; few pictures are held at a time.

    Args:
        records: of the pictures.
        resolution: side of the finest picture trained on.
        on_cut_box: called, by any thread, with each record whose box reaches out of its picture.
    """
    num_workers = max(1, min(machine.num_cores(), machine.memory_bytes() // WORKER_BYTES))
    window: collections.deque[tuple[Record, Future[np.ndarray | str]]] = collections.deque()
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for record in records:
                window.append((record, pool.submit(_try_to_prepare, record, resolution, on_cut_box)))
                if len(window) >= 4 * num_workers:
                    first, future = window.popleft()
                    yield first, future.result()
            while window:
                first, future = window.popleft()
                yield first, future.result()
        finally:
            for _, future in window:
                future.cancel()


def _try_to_prepare(record: Record, resolution: int, on_cut_box: Callable[[Record], object]) -> np.ndarray | str:
    try:
        return prepare(record.path, record.box, resolution, on_cut_box=functools.partial(on_cut_box, record))
    except UnusableImage as error:
        return str(error)

"""Between tensors in [-1, 1] and pictures a person looks at."""

import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional

import attngan
from attngan.data.captions import FUNCTION_WORDS
from attngan.storage import artifacts

FILM_SIDE = 640  # pixels of a film's longer side, at most
FRAME_MILLISECONDS = 200
TITLE_HEIGHT = 22  # pixels, above a frame of the film


def to_pictures(images: Tensor, *, side: int | None = None) -> list[Image.Image]:
    """Turn images (B, 3, H, W) in [-1, 1] into B pictures, enlarged to `side` pixels where it is given."""
    pixels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pictures = [Image.fromarray(image.numpy()) for image in pixels.permute(0, 2, 3, 1).cpu()]
    if side is None:
        return pictures
    return [picture.resize((side, side), Image.Resampling.BICUBIC) for picture in pictures]


def grid(rows: Sequence[Sequence[Image.Image]], *, gap: int = 2) -> Image.Image:
    """Lay pictures of one size out in rows on white."""
    width, height = rows[0][0].size
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, len(rows) * (height + gap) - gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture, (x * (width + gap), y * (height + gap)))
    return sheet


def to_png(picture: Image.Image, about: Mapping[str, str | int] | None = None, *, is_quick: bool = False) -> bytes:
    """Return a picture's PNG bytes.

    Args:
        picture: any.
        about: kept in it as text, by keyword (PNG's iTXt).
        is_quick: takes a quarter of the time and a fifth more bytes.
    """
    info = PngInfo()
    for keyword, text in (about or {}).items():
        info.add_itxt(keyword, str(text))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info, compress_level=1 if is_quick else 6)
    return buffer.getvalue()


def save(
    picture: Image.Image, path: Path, about: Mapping[str, str | int] | None = None, *, replaces: bool = True
) -> None:
    """Write a picture as PNG, atomically, with what is said about it; `replaces` as for `artifacts.atomic_file`."""
    with artifacts.atomic_file(path, replaces=replaces) as handle:
        handle.write(to_png(picture, about))


def save_film(paths: Sequence[Path], titles: Sequence[str], path: Path) -> None:
    """Write pictures of one size, one after the other, as an animated WebP; the last one stays a while.

    Args:
        paths: of the pictures.
        titles: what stands above each.
        path: of the film.
    """
    frames = []
    for each, title in zip(paths, titles, strict=True):
        with Image.open(each) as picture:
            picture.thumbnail((FILM_SIDE, FILM_SIDE))
            frame = Image.new("RGB", (picture.width, picture.height + TITLE_HEIGHT), "white")
            frame.paste(picture, (0, TITLE_HEIGHT))
        ImageDraw.Draw(frame).text((2, 2), title, fill="black", font_size=TITLE_HEIGHT - 6)
        frames.append(frame)
    durations = [FRAME_MILLISECONDS] * (len(frames) - 1) + [10 * FRAME_MILLISECONDS]
    with artifacts.atomic_file(path) as handle:
        frames[0].save(handle, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80)


def origin(caption: str, seed: int, bundle: str, **more: str | int) -> dict[str, str | int]:
    """Return what a generated picture says about itself: all that is needed to draw it again.

    Args:
        caption: as it was given.
        seed: of the noise.
        bundle: fingerprint of the bundle that drew it.
        more: such as the variant's number.
    """
    return {"caption": caption, "seed": seed, **more, "bundle": bundle, "Software": _software()}


@functools.cache
def _software() -> str:
    return f"attngan {attngan.__version__} ({artifacts.code_revision()})"


def attention_overlays(
    attention: Tensor, words: list[str], picture: Image.Image, count: int
) -> list[tuple[str, Image.Image]]:
    """Show for the words attended to most where they are attended to: the picture, dark where a word is not.

    Words such as "a" and "with" are not shown, unless the caption has no others.

    Args:
        attention: (T, H, W) of one picture, summing to 1 over T.
        words: the T words.
        picture: what the generator drew.
        count: how many words.

    Returns:
        Each word with its picture, in the caption's order.
    """
    # As in the released code, a word's weight is the attention it has beyond twice its fair share.
    is_strong = attention > 2 / len(words)
    strength = (attention * is_strong).sum(dim=(1, 2)).tolist()
    telling = [index for index, word in enumerate(words) if word not in FUNCTION_WORDS] or range(len(words))
    strongest = sorted(sorted(telling, key=lambda index: -strength[index])[:count])  # in the caption's order
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(picture.height, picture.width, 3)
    overlays = []
    for index in strongest:
        heat = attention[index] / attention[index].max().clamp(min=1e-8)
        heat = functional.interpolate(
            heat[None, None].cpu(), (picture.height, picture.width), mode="bicubic", align_corners=False
        )[0, 0].clamp(0, 1)
        lit = pixels * (0.12 + 0.88 * heat)[:, :, None]
        overlays.append((words[index], Image.fromarray(lit.to(torch.uint8).numpy())))
    return overlays

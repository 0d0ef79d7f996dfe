import contextlib
import os
import random
import socket
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attngan.data import images
from attngan.data.images import UnusableImage, central_part, crop_around, decode, prepare, prepare_all, stored_side
from attngan.data.records import Record
from attngan.runtime import machine


def released_crop(box, size):
    """The lines of the released code, with its names (datasets.py, get_imgs)."""
    width, height = size
    r = int(np.maximum(box[2], box[3]) * 0.75)
    center_x = int((2 * box[0] + box[2]) / 2)
    center_y = int((2 * box[1] + box[3]) / 2)
    y1 = np.maximum(0, center_y - r)
    y2 = np.minimum(height, center_y + r)
    x1 = np.maximum(0, center_x - r)
    x2 = np.minimum(width, center_x + r)
    return int(x1), int(y1), int(x2), int(y2)


def save(tmp_path, picture, name="bird.png", **options):
    path = tmp_path / name
    picture.save(path, **options)
    return path


@given(st.data())
def test_the_crop_is_that_of_the_released_code_for_every_box_inside_the_picture(data):
    width, height = data.draw(st.tuples(st.integers(8, 600), st.integers(8, 600)), label="size")
    x, y = data.draw(st.tuples(st.integers(0, width - 4), st.integers(0, height - 4)), label="corner")
    box_width = data.draw(st.integers(4, width - x), label="width")
    box_height = data.draw(st.integers(4, height - y), label="height")
    box = (float(x), float(y), float(box_width), float(box_height))
    assert crop_around(box, (width, height)) == released_crop(box, (width, height))


def test_the_crop_of_the_first_photograph_of_cub_is_known():
    # 325 wide: radius int(243.75), centre (222, 179); clipped at the top, the bottom and, at 465, not at the right.
    assert crop_around((60.0, 27.0, 325.0, 304.0), (500, 335)) == (0, 0, 465, 335)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((100.0, 10.0, 5.0, 5.0), "outside the picture of 60 x 50"),
        ((10.0, 50.0, 5.0, 5.0), "outside the picture"),
        ((-30.0, 10.0, 20.0, 20.0), "outside the picture"),
        ((-20.0, 10.0, 20.0, 20.0), "outside the picture"),
        ((10.0, 10.0, 0.0, 5.0), "width and height above 0"),
        ((10.0, 10.0, 5.0, -5.0), "width and height above 0"),
        ((float("nan"), 10.0, 5.0, 5.0), "four numbers"),
        ((10.0, 10.0, float("inf"), 5.0), "four numbers"),
        ((-1e308, 10.0, 1.7e308, 5.0), "four numbers"),
        ((10.0, 10.0, 1.0, 1.0), "leaves nothing"),
    ],
)
def test_a_box_that_cannot_be_used_says_why(box, reason):
    with pytest.raises(UnusableImage, match=reason):
        crop_around(box, (60, 50))


def test_a_box_that_sticks_out_is_clipped_with_the_crop():
    assert crop_around((-5.0, -5.0, 40.0, 40.0), (60, 50)) == (0, 0, 45, 45)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize(
    ("box", "is_cut"),
    [
        (None, False),
        ((0.0, 0.0, 60.0, 50.0), False),
        ((40.0, 30.0, 20.0, 20.0), False),  # the square around it is cut, but not the box
        ((-0.5, 0.0, 60.9, 50.9), False),  # rounding
        ((-1.0, 0.0, 20.0, 20.0), True),
        ((0.0, -5.0, 20.0, 20.0), True),
        ((41.0, 0.0, 20.0, 20.0), True),
        ((0.0, 31.0, 20.0, 20.0), True),
    ],
)
def test_a_box_that_reaches_out_of_its_picture_is_told(tmp_path, name, box, is_cut):
    path, cut = save(tmp_path, Image.new("RGB", (60, 50)), name), []
    record = Record(name, path, box, None, None, ())
    ((_, pixels),) = prepare_all([record], 16, on_cut_box=cut.append)
    assert min(pixels.shape[:2]) == 19
    assert cut == [record] * is_cut


def test_a_box_of_a_large_photograph_is_measured_in_its_own_pixels(tmp_path):
    path, cut = save(tmp_path, Image.new("RGB", (1200, 1000)), "a.jpg"), []
    for box in ((700.0, 600.0, 500.0, 400.0), (700.0, 600.0, 501.0, 400.0)):
        prepare(path, box, 16, on_cut_box=lambda box=box: cut.append(box))
    assert cut == [(700.0, 600.0, 501.0, 400.0)]


def test_a_box_that_cannot_be_used_is_not_told_as_cut(tmp_path):
    path = save(tmp_path, Image.new("RGB", (60, 50)))
    with pytest.raises(UnusableImage, match="outside"):
        prepare(path, (100.0, 0.0, 5.0, 5.0), 16, on_cut_box=lambda: pytest.fail("told"))


def test_the_stored_side_leaves_the_margin_of_the_released_code():
    assert [stored_side(resolution) for resolution in (64, 128, 256, 299)] == [76, 152, 304, 355]


@pytest.mark.parametrize(
    ("size", "part"),
    [
        ((100, 100), (0, 0, 100, 100)),
        ((200, 100), (0, 0, 200, 100)),
        ((300, 100), (50, 0, 250, 100)),
        ((10, 101), (0, 40, 10, 60)),
    ],
)
def test_long_pictures_keep_their_central_part(size, part):
    assert central_part(size) == part


@given(st.integers(8, 400), st.integers(8, 400))
def test_the_shorter_side_always_becomes_the_stored_side(width, height):
    part = central_part((width, height))
    assert min(part[2] - part[0], part[3] - part[1]) == min(width, height)
    side, short, longer = 76, min(width, height), max(part[2] - part[0], part[3] - part[1])
    assert int(side * short / short) == side
    assert side <= int(side * longer / short) <= 2 * side


def test_the_shorter_side_is_resized_to_the_stored_side_and_the_aspect_is_kept(tmp_path):
    path = save(tmp_path, Image.new("RGB", (90, 60), "red"))
    assert prepare(path, None, resolution=64).shape == (76, 114, 3)
    assert prepare(path, (0.0, 0.0, 20.0, 20.0), resolution=64).shape == (76, 76, 3)


def test_resizing_is_bilinear_as_in_torchvision(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    path = save(tmp_path, Image.fromarray(noise))
    from torchvision.transforms import Resize

    expected = np.asarray(Resize(76)(Image.fromarray(noise))).astype(int)
    assert np.abs(prepare(path, None, resolution=64) - expected).max() <= 1


def test_what_is_cropped_is_the_part_around_the_box(tmp_path):
    picture = Image.new("RGB", (80, 60), "blue")
    picture.paste("red", (20, 10, 50, 40))  # the square that the rule cuts around the box
    path = save(tmp_path, picture)
    assert (prepare(path, (25.0, 15.0, 20.0, 20.0), resolution=16) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("mode", "colour", "expected", "name"),
    [
        ("L", 100, (100, 100, 100), "a.jpg"),
        ("L", 100, (100, 100, 100), "a.png"),
        ("1", 1, (255, 255, 255), "a.png"),
        ("RGB", (10, 200, 30), (10, 200, 30), "a.png"),
        ("RGB", (10, 200, 30), (10, 200, 30), "a.bmp"),
        ("RGBA", (10, 200, 30, 255), (10, 200, 30), "a.png"),
        ("RGBA", (10, 200, 30, 0), (255, 255, 255), "a.png"),
        ("LA", (100, 0), (255, 255, 255), "a.png"),
        ("I;16", 65535, (255, 255, 255), "a.png"),
        ("I;16", 257 * 100, (100, 100, 100), "a.png"),
        ("I;16", 257 * 100, (100, 100, 100), "a.tiff"),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0), "a.tiff"),
    ],
)
def test_every_usual_kind_of_picture_becomes_8_bit_rgb(tmp_path, mode, colour, expected, name):
    decoded = decode(save(tmp_path, Image.new(mode, (12, 10), colour), name))
    assert decoded.mode == "RGB"
    assert np.abs(np.asarray(decoded).astype(int) - expected).max() <= 1


def test_a_cmyk_jpeg_keeps_its_colour(tmp_path):
    decoded = decode(save(tmp_path, Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "a.jpg", quality=95))
    red, green, blue = decoded.getpixel((8, 8))
    assert red > 240
    assert max(green, blue) < 15


def test_a_palette_with_a_transparent_colour_becomes_white_there(tmp_path):
    picture = Image.new("P", (10, 10), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (5, 0, 10, 10))
    decoded = decode(save(tmp_path, picture, transparency=0))
    assert decoded.getpixel((1, 1)) == (255, 255, 255)
    assert decoded.getpixel((8, 1)) == (0, 0, 255)


def test_a_rotated_photograph_is_put_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    decoded = decode(save(tmp_path, Image.new("RGB", (30, 20)), "a.jpg", exif=exif))
    assert decoded.size == (20, 30)


QUADRANTS = {(0, 0): (200, 20, 20), (1, 0): (20, 180, 20), (0, 1): (20, 20, 200), (1, 1): (210, 210, 30)}
TO_STORE = {  # what a camera that was held so has done to the upright picture
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
WRITERS = {
    "jpg": {"quality": 95, "subsampling": 0},
    "png": {},
    "webp": {"lossless": True},
    "tiff": {},
    "lzw.tiff": {"compression": "tiff_lzw"},
    "gif": {},
    "bmp": {},
}

TURNED = [(name, orientation) for name in WRITERS for orientation in (TO_STORE if name not in ("gif", "bmp") else [1])]


def quadrants(width, height):
    picture = Image.new("RGB", (width, height))
    for (column, row), colour in QUADRANTS.items():
        picture.paste(
            colour, (column * width // 2, row * height // 2, (column + 1) * width // 2, (row + 1) * height // 2)
        )
    return picture


def save_turned(tmp_path, upright, name, orientation):
    """Write a picture as a camera does that notes how it was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if TO_STORE[orientation] is None else upright.transpose(TO_STORE[orientation])
    return save(tmp_path, stored, f"a.{name}", exif=exif, **WRITERS[name])


@pytest.mark.parametrize("scale", [1, 5])  # at the larger size a JPEG is decoded smaller
@pytest.mark.parametrize(("name", "orientation"), TURNED)
def test_boxes_belong_to_the_upright_picture_in_every_format(tmp_path, name, orientation, scale):
    width, height = 200 * scale, 100 * scale
    path = save_turned(tmp_path, quadrants(width, height), name, orientation)
    assert decode(path).size == (width, height)
    assert prepare(path, None, resolution=64).shape == (76, 152, 3)
    for (column, row), colour in QUADRANTS.items():
        box = ((column + 0.5) * width / 2 - 20, (row + 0.5) * height / 2 - 10, 40.0, 20.0)
        part = prepare(path, box, resolution=64)
        assert part.shape == (76, 76, 3) if scale > 1 else min(part.shape[:2]) == 76
        assert np.abs(part[8:-8, 8:-8].astype(int) - colour).max() < 12, (column, row)


@pytest.mark.parametrize("name", ["tiff", "lzw.tiff"])
def test_a_tiff_that_says_it_twice_is_turned_once(tmp_path, name):
    stored = quadrants(200, 100).transpose(TO_STORE[6])
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    for tags in ({274: 6, 700: xmp}, {700: xmp}):
        path = save(tmp_path, stored, f"a.{name}", tiffinfo=tags, **WRITERS[name])
        assert decode(path).size == (200, 100)
        assert (prepare(path, (40.0, 15.0, 20.0, 20.0), resolution=64) == QUADRANTS[0, 0]).all()


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a device", "a folder"])
def test_what_is_no_plain_file_is_not_waited_for(tmp_path, kind):
    path = tmp_path / "a.jpg"
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "a pipe":
            os.mkfifo(path)
        elif kind == "a socket":
            server.bind(str(path))
        elif kind == "a device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir()
        with pytest.raises(UnusableImage, match=f"expected a file, found {kind}"):
            decode(path)


@pytest.mark.parametrize("name", ["n" * 300 + ".jpg", "a\0b.jpg", "\ud800.jpg", f"{'deep/' * 2000}a.jpg"])
def test_a_name_that_no_file_can_have_costs_that_picture_alone(tmp_path, name):
    record = Record("a", tmp_path / name, None, None, None, ())
    ((_, reason),) = prepare_all([record], 16)
    assert "name" in reason


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_picture_is_decoded_or_says_why_not(tmp_path, name, seed):
    draw = random.Random(seed)
    sound = save_turned(tmp_path, quadrants(40, 20), name, 1 if name in ("gif", "bmp") else 6).read_bytes()
    path = tmp_path / "damaged"
    for _ in range(60):
        content = bytearray(sound)
        for _ in range(draw.choice((1, 2, 8))):
            place = draw.randrange(min(len(content), draw.choice((60, 100_000))))
            content[place : place + draw.choice((0, 1, 1, 4))] = draw.randbytes(draw.choice((0, 1, 1, 4)))
        path.write_bytes(content)
        with contextlib.suppress(UnusableImage):
            assert min(prepare(path, (5.0, 5.0, 12.0, 9.0), resolution=16).shape[:2]) == 19


def test_a_truncated_jpeg_cannot_be_used(tmp_path):
    path = save(tmp_path, Image.effect_noise((200, 200), 90), "a.jpg")
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(UnusableImage, match=r"cannot be decoded.*truncated"):
        decode(path)


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", b"\xff\xd8\xff\xe0", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_not_a_picture_cannot_be_used(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(UnusableImage, match=r"not a picture|cannot be decoded"):
        decode(path)


def test_a_missing_file_and_a_folder_cannot_be_used(tmp_path):
    with pytest.raises(UnusableImage, match="no such file"):
        decode(tmp_path / "a.jpg")
    with pytest.raises(UnusableImage, match="expected a file, found a folder"):
        decode(tmp_path)


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    path = tmp_path / "bomb.png"
    path.write_bytes(content + chunk(b"IEND", b""))
    with pytest.raises(UnusableImage, match="decompression bomb"):
        decode(path)


def test_a_picture_of_one_pixel_is_too_small(tmp_path):
    path = save(tmp_path, Image.new("RGB", (1, 1)))
    with pytest.raises(UnusableImage, match="only 1 x 1 pixels are left"):
        prepare(path, None, resolution=64)


@given(st.binary(max_size=200))
def test_garbage_after_a_jpeg_header_never_raises_anything_else(content):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + content)
        with pytest.raises(UnusableImage):
            decode(path)


def test_the_order_is_kept_for_any_number_of_workers_and_a_bad_picture_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**40)
    records = []
    for number in range(20):
        path = save(tmp_path, Image.new("RGB", (10 + number, 10), (number, 0, 0)), f"{number}.png")
        records.append(Record(path.name, path, None, None, None, ()))
    records[7].path.write_bytes(b"broken")
    results = {}
    for workers in (1, 3):
        monkeypatch.setattr(machine, "num_cores", lambda workers=workers: workers)
        results[workers] = [
            (record.name, pixels if isinstance(pixels, str) else pixels.tobytes())
            for record, pixels in prepare_all(records, 16)
        ]
    assert results[1] == results[3]
    assert [name for name, _ in results[1]] == [record.name for record in records]
    assert "not a picture" in results[1][7][1]


def test_only_a_few_pictures_are_read_ahead(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(images, "_try_to_prepare", lambda record, *_: started.append(record.name) or "no")
    monkeypatch.setattr(machine, "num_cores", lambda: 2)
    records = [Record(str(number), tmp_path, None, None, None, ()) for number in range(100)]
    next(prepare_all(records, 16))
    assert len(started) <= 8


@pytest.mark.parametrize(("cores", "gigabytes", "most"), [(64, 8, 4), (2, 1024, 2), (64, 1, 1)])
def test_no_more_pictures_are_prepared_at_once_than_memory_holds(cores, gigabytes, most, tmp_path, monkeypatch):
    running, peaks, enough = [], [], threading.Event()

    def prepared(record, *_):
        running.append(record)
        peaks.append(len(running))
        if len(running) >= most:
            enough.set()
        enough.wait(10)
        time.sleep(0.02)
        running.pop()
        return "no"

    monkeypatch.setattr(images, "_try_to_prepare", prepared)
    monkeypatch.setattr(machine, "num_cores", lambda: cores)
    monkeypatch.setattr(machine, "memory_bytes", lambda: gigabytes * 2**30)
    assert len(list(prepare_all([Record("a", tmp_path, None, None, None, ())] * 40, 16))) == 40
    assert max(peaks) == most

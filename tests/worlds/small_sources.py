"""Small things that tests write: a CUB folder of plain pictures, and a dataset folder with known pixels."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from attngan.config import settings as configs
from attngan.config.settings import Config
from attngan.data.captions import Vocabulary
from attngan.data.dataset_files import SPLIT_FILES
from attngan.data.dataset_writer import content_digests, content_fingerprint, pixel_writer, write_split
from attngan.data.records import Record
from attngan.storage import artifacts

# number, class id, colour; class 1 is one of CUB's published test classes, class 2 and 3 are for training.
PICTURES = [(1, 2, "red"), (2, 2, "green"), (5, 3, "blue"), (6, 3, "white"), (9, 1, "black"), (11, 1, "yellow")]
CLASSES = {1: "001.Black_Bird", 2: "002.Red_Bird", 3: "003.Blue_Bird"}


# Of the dataset folder: height and width of each picture, and the word ids of each of its captions.
RESOLUTION = 16  # so the shorter side that is stored is 19
SHAPES = [(19, 19), (19, 30), (38, 19)]
CAPTIONS = [[[1, 2, 3], [4]], [[5, 6, 7, 8, 9, 10, 11, 12]], [[2, 1], [3, 3], [12, 1]]]  # word ids
WORDS = ["<end>", *"abcdefghijkl"]


def file_of(number: int) -> str:
    """Return the name that `images.txt` has for a picture."""
    class_id = next(class_id for other, class_id, _ in PICTURES if other == number)
    return f"{CLASSES[class_id]}/bird_{number}.jpg"


def caption_file(source: Path, number: int) -> Path:
    """Return where `write_cub` put a picture's captions."""
    return (source / "text" / file_of(number)).with_suffix(".txt")


def settings(*overrides: str) -> Config:
    """Return a config at 64 pixels in two stages, with overrides."""
    return configs.load(overrides=["data.resolution=64", "generator.num_stages=2", *overrides])


def write_cub(folder: Path, size: tuple[int, int] = (60, 50)) -> Path:
    """Write six pictures in CUB's layout, `folder/CUB_200_2011` and `folder/text`; return `folder`."""
    root = folder / "CUB_200_2011"
    lists: dict[str, list[str]] = {"images": [], "bounding_boxes": [], "image_class_labels": [], "train_test_split": []}
    for number, class_id, colour in PICTURES:
        picture, text = root / "images" / file_of(number), (folder / "text" / file_of(number)).with_suffix(".txt")
        picture.parent.mkdir(parents=True, exist_ok=True)
        text.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(picture)
        text.write_text(f"this bird is {colour}\na {colour} bird with two wings\n", encoding="utf-8")
        lists["images"].append(f"{number} {file_of(number)}")
        lists["bounding_boxes"].append(f"{number} 20.0 15.0 20.0 20.0")
        lists["image_class_labels"].append(f"{number} {class_id}")
        lists["train_test_split"].append(f"{number} 1")
    lists["classes"] = [f"{number} {name}" for number, name in CLASSES.items()]
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def replace_line(path: Path, start: str, line: str | None) -> None:
    """Replace the line of a list that starts with `start`; None removes it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [(line if old.startswith(start) else old) for old in lines]
    path.write_text("".join(f"{entry}\n" for entry in kept if entry is not None), encoding="utf-8")


def write_dataset(folder: Path) -> Path:
    """Three pictures a split; a pixel's red is its row, green its column, blue the picture's number times 100."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        with pixel_writer(folder / split) as writer:
            for number, (height, width) in enumerate(SHAPES):
                rows, columns = np.mgrid[:height, :width]
                pixels = np.stack([rows, columns, np.full_like(rows, 100 * number)], axis=2)
                writer.append(pixels.astype(np.uint8))
        records = [
            Record(f"{n}.jpg", folder, None, f"class {n}", split, tuple(f"caption {k}" for k in range(len(of_image))))
            for n, of_image in enumerate(CAPTIONS)
        ]
        write_split(folder / split, index=writer.index, records=records, class_ids=[7, 5, 7], word_ids=CAPTIONS)
    Vocabulary(WORDS).save(folder / "vocabulary.json")
    info = {"format_version": 1, "resolution": RESOLUTION, "fingerprint": content_fingerprint(content_digests(folder))}
    artifacts.write_json(folder / "dataset.json", info)
    declare_complete(folder)
    return folder


def declare_complete(folder: Path) -> None:
    """Write the manifest over what is in the folder."""
    files = [f"{split}/{name}" for split in ("train", "test") for name in SPLIT_FILES]
    artifacts.finish(folder, "dataset", [*files, "dataset.json", "vocabulary.json"])


def pack(folder: Path, parts: list[str], archive: Path) -> Path:
    """Pack parts of a folder into a .zip, .tar or .tgz."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as handle:
            for path in sorted(path for part in parts for path in (folder / part).rglob("*")):
                handle.write(path, path.relative_to(folder))
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as handle:
            for part in parts:
                handle.add(folder / part, part)
    return archive

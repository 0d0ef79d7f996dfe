"""What the frozen trunk of the image encoder sees, computed once and kept: 98 % of a DAMSM step's arithmetic.

A picture has several views (cuts and flips), each a record of bfloat16 numbers in a memory-mapped file, or on the CUDA
device where all of them fit. The trunk's batch norms are in evaluation mode, so a record does not depend on its batch.
"""

import dataclasses
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attngan.data.transforms import send
from attngan.errors import InputError
from attngan.models.image_encoder import PretrainedImageEncoder
from attngan.runtime import distributed, scratch
from attngan.runtime.console import progress
from attngan.storage import artifacts, json_text

BATCH_SIZE = 16
NOTED_EVERY = 8  # batches: what a killed run loses at the most
WHAT = "the features of the image encoder's trunk"
INSTEAD = ", or lower damsm.trunk_views (0: compute them anew in each step)"
DEVICE_SHARE = 0.6  # of the free memory of a CUDA device that features may take
Views = Callable[[Sequence[int], int], Tensor]


@dataclasses.dataclass(frozen=True)
class TrunkFeatures:
    """Records of a split.

    Attributes:
        records: (N, K, R) bfloat16: K views of N pictures.
        region_shape: (H, W, C) of the first numbers of a record; the others are the picture's feature.
    """

    records: Tensor
    region_shape: tuple[int, int, int]

    def take(
        self, images: Tensor, views: Tensor, device: torch.device, precision: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return regions (B, C, H, W), channels last, and pooled (B, P) of pictures (B,), each in its view (B,)."""
        rows = send(images * self.records.shape[1] + views, self.records.device)
        records, num_region = self.records.flatten(0, 1), math.prod(self.region_shape)
        regions, pooled = (
            send(part.index_select(0, rows), device).to(precision)
            for part in (records[:, :num_region], records[:, num_region:])
        )
        return regions.unflatten(1, self.region_shape).permute(0, 3, 1, 2), pooled


def compute(
    encoder: PretrainedImageEncoder, pictures: Views, shape: tuple[int, int], key: Any, device: torch.device
) -> TrunkFeatures:
    """Compute the records of a split, or find those that an earlier run computed.

    The file lies in the folder for temporary files (TMPDIR) until `forget` removes it; a node's processes share it.

    Args:
        encoder: its trunk is asked, in evaluation mode.
        pictures: the images (B, 3, H, W) of some numbers in one view; the same ones whenever it is asked.
        shape: N pictures, K views.
        key: what shapes the records, as JSON can hold it; a list, the first entry of which is a name for people.
        device: where the encoder is.

    Raises:
        InputError: there is no room for the file.
    """
    count, num_views = shape
    first, region_shape = extract(encoder, pictures([0], 0))
    size = first.shape[1]
    path = _file(key)
    if distributed.rank_of_node() == 0:
        _make_room(path, 2 * count * num_views * size)
    distributed.wait_for_all()  # the file is there
    records = torch.from_file(str(path), shared=True, size=count * num_views * size, dtype=torch.bfloat16)
    records = records.view(count, num_views, size)
    work = [
        (view, range(start, min(start + BATCH_SIZE, count)))
        for view in range(num_views)
        for start in range(0, count, BATCH_SIZE)
    ][distributed.rank_of_node() :: distributed.size_of_node()]
    _fill(records, encoder, pictures, work, path, key[0])
    distributed.wait_for_all()  # every process has done its part
    return TrunkFeatures(records.to(home_of(records, device)), region_shape)


def home_of(records: Tensor, device: torch.device) -> torch.device:
    """Return where records are kept while training: on a CUDA device if all of them fit there, else where they are."""
    is_held = device.type == "cuda" and records.numel() * 2 < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
    return device if is_held else records.device


def forget(key: Any) -> None:
    """Remove the file of a split."""
    shutil.rmtree(_file(key).parent, ignore_errors=True)


@torch.no_grad()
def extract(encoder: PretrainedImageEncoder, images: Tensor) -> tuple[Tensor, tuple[int, int, int]]:
    """Return the records (B, R) of some images, and the shape (H, W, C) of their regions."""
    regions, pooled = encoder.eval().extract(images)
    regions = regions.permute(0, 2, 3, 1)
    records = torch.cat([regions.flatten(1), pooled], dim=1).to("cpu", torch.bfloat16)
    return records, (regions.shape[1], regions.shape[2], regions.shape[3])


def _fill(
    records: Tensor,
    encoder: PretrainedImageEncoder,
    pictures: Views,
    work: list[tuple[int, range]],
    path: Path,
    name: str,
) -> None:
    """Compute what is still missing of the work; a killed run's part counts."""
    done_file = path.with_name(f"done-{distributed.rank_of_node()}-{distributed.size_of_node()}.json")
    done = _read_note(done_file, len(work))
    total = sum(len(numbers) for _, numbers in work)
    start = sum(len(numbers) for _, numbers in work[:done])
    if start == total:
        return
    with progress(f"{name}: the trunk's features", total=total, unit="views", start=start) as advance:
        try:
            for view, numbers in work[done:]:
                records[numbers.start : numbers.stop, view] = extract(encoder, pictures(numbers, view))[0]
                done += 1
                if done % NOTED_EVERY == 0:
                    _note(done, done_file, path)
                advance(len(numbers))
        finally:
            _note(done, done_file, path)


def _note(done: int, done_file: Path, path: Path) -> None:
    """Write down how much of the work is done, once the records are on the disk: it must not outlive them."""
    scratch.write_through(path)
    artifacts.write_text(done_file, str(done))


def _read_note(done_file: Path, num_parts: int) -> int:
    """Return how much of the work a note calls done; a damaged one counts for nothing."""
    try:
        done = json_text.read(done_file, int) if done_file.exists() else 0
    except InputError:
        return 0
    return done if 0 <= done <= num_parts else 0


def _make_room(path: Path, size: int) -> None:
    """Make a file for records that has its room on the disk, and forget the notes of one that is no longer there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists() or path.stat().st_size != size
    if is_new:
        path.unlink(missing_ok=True)
        check_room(path.parent, size)
        for note in path.parent.glob("done-*.json"):
            note.unlink()
    try:
        with path.open("w+b" if is_new else "r+b") as file:
            scratch.take_room(file, size, path.parent, WHAT, instead=INSTEAD)
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise


def check_room(folder: Path, size: int) -> None:
    """Make sure that there is room for records of `size` bytes in all, or say in an InputError what could help."""
    scratch.check_room(folder, size, WHAT, instead=INSTEAD)


def _file(key: Any) -> Path:
    return Path(tempfile.gettempdir()) / f"attngan-features-{artifacts.fingerprint(key)[:16]}" / "records.bin"

"""The views of pictures that the frozen trunk is asked about before the encoders train."""

import contextlib
import functools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from attngan import seeding
from attngan.data.dataset import Dataset
from attngan.storage import artifacts
from attngan.training import trunk_features
from attngan.training.damsm_run import DamsmRun
from attngan.training.trunk_features import TrunkFeatures


@contextlib.contextmanager
def kept_features(run: DamsmRun, train: Dataset, test: Dataset, key: dict[str, Any]) -> Iterator[None]:
    """Give a run what the trunk sees, where that is always the same; the files go when the block ends without an error.

    Args:
        run: its `trunk` and `test_trunk` are set.
        train: random squares, flipped at random: `damsm.trunk_views` views of each picture.
        test: the centre square of each picture.
        key: of the run: "dataset" and "inception" shape the features.
    """
    if not run.can_keep_features():
        yield
        return
    config, num_views = run.config, run.config.damsm.trunk_views
    cut, centre = functools.partial(_cut, run, train), functools.partial(_centre, run, test)
    facts = {name: key[name] for name in ("dataset", "inception")} | {"state_version": artifacts.STATE_VERSION}
    facts |= {"seed": config.seed, "resolution": config.data.resolution, "precision": str(run.precision)}
    cuts, centres = ["training pictures", {**facts, "views": num_views}], ["held-out pictures", facts]
    with run.autocast():
        run.trunk = trunk_features.compute(run.image_encoder, cut, (len(train), num_views), cuts, run.device)
        run.test_trunk = trunk_features.compute(run.image_encoder, centre, (len(test), 1), centres, run.device)
    yield
    for names in (cuts, centres):
        trunk_features.forget(names)


def extract(run: DamsmRun, train: Dataset, numbers: Sequence[int]) -> None:
    """Let the trunk extract the features of some pictures once, for what time it takes."""
    with run.autocast():
        trunk_features.extract(run.image_encoder, _cut(run, train, numbers, 0))


def pretend(run: DamsmRun, train: Dataset, test: Dataset) -> int:
    """Give a run features of the right sizes that nothing was computed for; those on a CUDA device take its memory.

    Returns:
        Bytes of the files that real ones take.

    Raises:
        InputError: there is no room for them.
    """
    num_views = run.config.damsm.trunk_views
    record, shape = trunk_features.extract(run.image_encoder, _cut(run, train, [0], 0))
    num_bytes = (len(train) * num_views + len(test)) * record.nbytes
    trunk_features.check_room(Path(tempfile.gettempdir()), num_bytes)

    def made_up(count: int, num_views: int) -> TrunkFeatures:
        records = record.expand(count, num_views, -1)
        home = trunk_features.home_of(records, run.device)
        records = record.to(home).expand_as(records)
        return TrunkFeatures(records.contiguous() if home.type == "cuda" else records, shape)

    run.trunk, run.test_trunk = made_up(len(train), num_views), made_up(len(test), 1)
    return num_bytes


def _cut(run: DamsmRun, train: Dataset, numbers: Sequence[int], view: int) -> Tensor:
    rng = seeding.rng_for(run.config.seed, "view", view, numbers[0])
    resolutions = [run.config.data.resolution]
    return train.training_batch(numbers, resolutions=resolutions, max_words=1, rng=rng, device=run.device).images[-1]


def _centre(run: DamsmRun, test: Dataset, numbers: Sequence[int], _: int) -> Tensor:
    resolutions = [run.config.data.resolution]
    batch = test.evaluation_batch(numbers, [0] * len(numbers), resolutions=resolutions, max_words=1)
    return batch.images[-1].to(run.device)

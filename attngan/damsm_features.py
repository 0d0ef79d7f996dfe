"""The views of pictures that the frozen trunk is asked about before the encoders train."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from attngan import seeding, trunk_features
from attngan.damsm_run import DamsmRun
from attngan.data.dataset import Dataset


@contextlib.contextmanager
def kept_features(run: DamsmRun, train: Dataset, test: Dataset, key: dict[str, Any]) -> Iterator[None]:
    """Give a run what the trunk sees, where that is always the same; the files go when the block ends without an error.

    Args:
        run: its `trunk` and `test_trunk` are set.
        train: random squares, flipped at random: `damsm.trunk_views` views of each picture.
        test: the centre square of each picture.
        key: of the run: "dataset", "inception" and "code" shape the features.
    """
    if not run.can_keep_features():
        yield
        return
    config = run.config
    resolutions, num_views = [config.data.resolution], config.damsm.trunk_views

    def cut(numbers: Sequence[int], view: int) -> Tensor:
        state = seeding.generator_for(config.seed, "view", view, numbers[0])
        return train.training_batch(
            numbers, resolutions=resolutions, max_words=1, generator=state, device=run.device
        ).images[-1]

    def centre(numbers: Sequence[int], _: int) -> Tensor:
        batch = test.evaluation_batch(numbers, [0] * len(numbers), resolutions=resolutions, max_words=1)
        return batch.images[-1].to(run.device)

    facts = {name: key[name] for name in ("dataset", "inception", "code")}
    facts |= {"seed": config.seed, "resolutions": resolutions, "precision": str(run.precision)}
    cuts, centres = ["training pictures", {**facts, "views": num_views}], ["held-out pictures", facts]
    with run.autocast():
        run.trunk = trunk_features.compute(run.image_encoder, cut, (len(train), num_views), cuts, run.device)
        run.test_trunk = trunk_features.compute(run.image_encoder, centre, (len(test), 1), centres, run.device)
    yield
    for names in (cuts, centres):
        trunk_features.forget(names)

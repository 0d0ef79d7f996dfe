"""Whether a dataset is enough for a config, in every step: said before the first one spends time.

What cannot be done at all is a problem. Where less than was set still makes sense it is taken, and said in a note.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from attngan.config.settings import Config
from attngan.data.dataset import Dataset
from attngan.data.records import CaptionLabels
from attngan.errors import InputError
from attngan.metrics import retrieval
from attngan.runtime.console import say

MIN_PICTURES = 8  # of a set, for figures of whole sets: half of a half of it still has a neighbour
MIN_TEST = 4  # test pictures: half of them say what is normal of the others


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a dataset has to offer.

    Attributes:
        num_train: training pictures.
        num_test: test pictures.
        num_wrong: captions of the test split that fit a test picture in neither class nor text; of the picture with the
            fewest.
        are_alike: the test pictures are one picture, again and again.
    """

    num_train: int
    num_test: int
    num_wrong: int
    are_alike: bool


def sizes_of(num_train: int, test_labels: CaptionLabels, *, are_alike: bool) -> Sizes:
    """Return the sizes of a dataset, from class and text of every caption of each test picture."""
    first = [of_picture[0] for of_picture in test_labels]
    return Sizes(num_train, len(test_labels), fewest_wrong(test_labels, first) if first else 0, are_alike)


def problems(config: Config, sizes: Sizes, *, trains: bool = True) -> list[str]:
    """Return what cannot be done, each as a part of a sentence.

    Args:
        config: of all steps.
        sizes: of the dataset.
        trains: the trainings are still to come.
    """
    batches = {"damsm.batch_size": config.damsm.batch_size, "training.batch_size": config.training.batch_size}
    found = [
        f"{sizes.num_train} training pictures are fewer than {setting} {batch_size}; lower it"
        for setting, batch_size in batches.items()
        if trains and batch_size > sizes.num_train
    ]
    if sizes.num_test < MIN_TEST:
        found.append(f"{sizes.num_test} test pictures are fewer than the {MIN_TEST} that figures need; add pictures")
        return found
    if not sizes.num_wrong:
        found.append(
            "for some test picture every other caption is of its class or has the same text, so there is no wrong "
            "caption to choose among (R-precision); leave `class` out where all pictures share one, or add pictures "
            "with other captions"
        )
    if sizes.are_alike:
        found.append(f"the {sizes.num_test} test pictures are all the same; add others")
    return found


def notes(config: Config, sizes: Sizes, *, trains: bool = True, evaluates: bool = True) -> list[str]:
    """Return a sentence for each number that is smaller here than it was set.

    Args:
        config: of all steps.
        sizes: of the dataset.
        trains: what the trainings have less of counts.
        evaluates: what `evaluate` has less of counts.
    """
    settings, found = config.evaluate, []
    if trains and sizes.num_wrong + 1 < settings.num_candidates:
        found.append(fewer_candidates(sizes.num_wrong + 1, settings.num_candidates))
    if trains and sizes.num_test < config.watch.num_images:
        found.append(
            f"watch.num_images: snapshots compare {config.watch.num_images} drawn pictures with {sizes.num_test} real "
            "ones, all of the test split."
        )
    subset = min(sizes.num_test, settings.num_images)
    if evaluates and sizes.num_test < MIN_PICTURES:
        found.append(
            f"evaluate: KID, FID, precision and recall need {MIN_PICTURES} test pictures; with {sizes.num_test} they "
            "are left out."
        )
    elif evaluates and subset < settings.kid_subset_size:
        found.append(
            f"evaluate.kid_subset_size: KID compares sets of {subset} pictures, as many as there are, not of "
            f"{settings.kid_subset_size:,}."
        )
    return found


def check(
    config: Config, folder: Path, train: Dataset, test: Dataset, *, trains: bool = True, evaluates: bool = True
) -> None:
    """Say what is smaller than it was set; InputError names everything that cannot be done with the dataset.

    Args:
        config: of all steps.
        folder: of the dataset.
        train: its training pictures.
        test: its test pictures.
        trains: the trainings are still to come.
        evaluates: it is said what `evaluate` has less of.
    """
    resolution = config.data.resolution
    if trains and resolution > train.resolution:
        raise InputError(
            f"{folder}: its pictures are stored for {train.resolution} pixels, {resolution} are asked for; give this "
            f"step the settings of the dataset, --config {folder / 'config.yaml'}, or run preprocess again with "
            f"data.resolution={resolution}."
        )
    sizes = sizes_of(len(train), test.caption_labels(), are_alike=test.are_alike())
    if found := problems(config, sizes, trains=trains):
        raise refusal(folder, found)
    for note in notes(config, sizes, trains=trains, evaluates=evaluates):
        say(note)


def refusal(where: Path, found: list[str]) -> InputError:
    """Return what to say of a dataset that is not enough."""
    return InputError(f"{where}: {'; '.join(found)}.")


def fewest_wrong(labels: CaptionLabels, pool: Sequence[tuple[int, int]]) -> int:
    """Return how many captions of a pool are wrong for a test picture, of the picture for which they are fewest.

    Args:
        labels: class and text of every caption of every test picture, `Dataset.caption_labels`.
        pool: class and text of the captions to draw wrong ones from.
    """
    own = [label for of_picture in labels for label in of_picture]
    return retrieval.fewest_wrong(torch.tensor(own), torch.tensor(pool))


def num_candidates(labels: CaptionLabels, pool: Sequence[tuple[int, int]], wanted: int) -> int:
    """Return how many captions a picture chooses among: as many as wanted, or as there are.

    Args:
        labels: as for `fewest_wrong`.
        pool: as for `fewest_wrong`.
        wanted: `evaluate.num_candidates`.

    Raises:
        InputError: for some picture no caption is wrong.
    """
    there = fewest_wrong(labels, pool) + 1
    if there < 2:
        raise InputError("R-precision: for some test picture no caption is of another class and text; add pictures.")
    return min(wanted, there)


def fewer_candidates(there: int, wanted: int) -> str:
    """Return what to say where R-precision chooses among fewer captions than it was set to."""
    return (
        f"evaluate.num_candidates: R-precision chooses among {there} captions, not among {wanted}: for some test "
        "picture no more are of another class and text."
    )

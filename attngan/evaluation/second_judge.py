"""A second judge of R-precision: a DAMSM that the generator was not trained against."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from attngan.config import settings
from attngan.data.captions import Vocabulary
from attngan.errors import InputError
from attngan.evaluation.extractors import Extractor, damsm_extractor
from attngan.evaluation.picture_sets import EvaluationPictures, Query
from attngan.inference import trained_encoders
from attngan.models.text_encoder import TextEncoder
from attngan.storage import artifacts


@dataclasses.dataclass(frozen=True)
class SecondJudge:
    """Looks at pictures and reads captions through encoders of its own.

    Args:
        extractor: its image encoder.
        text_encoder: of the same folder.
        max_words: longer captions keep their first words.
    """

    extractor: Extractor
    text_encoder: TextEncoder
    max_words: int

    @torch.no_grad()
    def sentences(self, subject: EvaluationPictures, queries: Sequence[Query]) -> Tensor:
        """Return its sentence features (B, D) of some captions."""
        word_ids, lengths = subject.word_ids(queries, self.max_words)
        return self.text_encoder(word_ids.to(subject.model.device), lengths)[1]


def open_second_judge(folder: Path, subject: EvaluationPictures, *, first: Extractor, generator: Path) -> SecondJudge:
    """Read a `damsm` folder by its own settings.

    Args:
        folder: of the second judge.
        subject: the pictures to be judged.
        first: what the first judge sees with.
        generator: folder of the model under test, which knows the DAMSM that it was trained against.

    Raises:
        InputError: the generator was trained against it, or it reads other words than the dataset has.
    """
    fingerprint = artifacts.check(folder, "damsm", contents=True)["fingerprint"]
    config, vocabulary = settings.load_file(folder / "config.yaml"), Vocabulary.load(folder / "vocabulary.json")
    if vocabulary.words != subject.test.vocabulary.words:
        raise InputError(
            f"{folder}: its vocabulary is not the dataset's; give a second DAMSM that was trained on this dataset."
        )
    text_encoder, image_encoder = trained_encoders.load(folder, config, len(vocabulary), subject.model.device)
    judge = SecondJudge(damsm_extractor(folder, image_encoder), text_encoder, config.data.max_words)
    trained_against = artifacts.check(generator, "generator").get("damsm")
    if fingerprint == trained_against or judge.extractor.conditions["sha256"] == first.conditions["sha256"]:
        raise InputError(
            f"{folder}: expected a second DAMSM, found the judge that the generator was trained against; give one of "
            "another training, such as that of attngan pretrain-damsm --set seed=1."
        )
    return judge

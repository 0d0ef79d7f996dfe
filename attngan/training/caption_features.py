"""What the frozen text encoder makes of every caption, computed once before the generator trains."""

import torch

from attngan.data.dataset import Batch, Dataset
from attngan.models.layers import at_least_float32
from attngan.models.text_encoder import TextEncoder, TextFeatures
from attngan.runtime.console import progress
from attngan.runtime.scratch import mapped_zeros

BATCH_SIZE = 512  # captions encoded at once


class CaptionFeatures:
    """Word and sentence features of all captions of a split; a caption that lost words for a batch is encoded anew.

    Args:
        encoder: frozen, in evaluation mode.
        dataset: the split.
        max_words: captions with more are not kept, since a batch takes others of their words each time.
        precision: in which features are kept; None keeps them as they are.
        device: where features are kept: N captions x T words x D numbers (CUB, 18 words: 0.8 GB in bfloat16). On a CPU
            they lie in a mapped file, which the system holds in memory as long as it has some to spare.

    Raises:
        InputError: there is no room for that file.
    """

    @torch.no_grad()
    def __init__(
        self,
        encoder: TextEncoder,
        dataset: Dataset,
        *,
        max_words: int,
        precision: torch.dtype | None,
        device: torch.device,
    ):
        self.encoder = encoder
        longest = min(max_words, dataset.longest_caption)
        dim = 2 * encoder.lstm.hidden_size
        shapes = (dataset.num_captions, longest, dim), (dataset.num_captions, dim)
        dtype = precision or encoder.embedding.weight.dtype
        if device.type == "cpu":
            self.words, self.sentences = (mapped_zeros(shape, dtype, "the captions' features") for shape in shapes)
        else:
            self.words, self.sentences = (torch.zeros(shape, dtype=dtype, device=device) for shape in shapes)
        with progress("captions read by the text encoder", total=dataset.num_captions, unit="captions") as advance:
            for start in range(0, dataset.num_captions, BATCH_SIZE):
                numbers = range(start, min(start + BATCH_SIZE, dataset.num_captions))
                word_ids, lengths = dataset.captions_by_number(numbers, max_words=max_words)
                words, sentences = encoder(word_ids.to(device), lengths)
                self.words[numbers.start : numbers.stop, : words.shape[2]] = words.transpose(1, 2)
                self.sentences[numbers.start : numbers.stop] = sentences
                advance(len(numbers))

    @torch.no_grad()
    def take(self, batch: Batch) -> TextFeatures:
        """Return the features of a batch's captions.

        In float32 or more. T is the same for every batch, so that a step has the same shapes each time.
        """
        where = batch.caption_numbers.to(self.words.device, non_blocking=True)
        words, sentences = at_least_float32(self.words[where]), at_least_float32(self.sentences[where])
        cut = batch.is_cut.nonzero()[:, 0]  # on the CPU, as all that a batch says of its captions but their words
        if len(cut):
            there = cut.to(words.device, non_blocking=True)
            anew, sentences[there] = self.encoder(batch.word_ids[there], batch.lengths[cut])
            words[there, : anew.shape[2]] = anew.transpose(1, 2)
        lengths = batch.lengths.to(words.device, non_blocking=True)
        is_padding = torch.arange(words.shape[1], device=words.device)[None] >= lengths[:, None]
        return TextFeatures(words.transpose(1, 2), sentences, is_padding)

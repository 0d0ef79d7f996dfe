"""The text encoder of the DAMSM: a bi-directional LSTM (section 3.2)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class TextFeatures(NamedTuple):
    """What a text encoder makes of B captions.

    Attributes:
        words: (B, D, T), 0 on padding.
        sentence: (B, D).
        is_padding: (B, T), True where a caption has no word.
    """

    words: Tensor
    sentence: Tensor
    is_padding: Tensor

    def part(self, own: slice) -> "TextFeatures":
        """Return those of some of the captions."""
        return TextFeatures(self.words[own], self.sentence[own], self.is_padding[own])


class TextEncoder(nn.Module):
    """Turns word ids into one feature a word and one for the sentence.

    Args:
        vocabulary_size: V, number of word ids; id 0 pads.
        embedding_dim: size of a word's embedding.
        feature_dim: D, even: half of it comes from each direction.
        dropout: share of embedding values dropped while training.
        embedding_range: first embeddings are uniform between minus and plus this.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        embedding_dim: int = 300,
        feature_dim: int = 256,
        dropout: float = 0.5,
        embedding_range: float = 0.1,
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(embedding_dim, feature_dim // 2, batch_first=True, bidirectional=True)
        nn.init.uniform_(self.embedding.weight, -embedding_range, embedding_range)

    def forward(self, word_ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode captions of any lengths in any order.

        Args:
            word_ids: (B, T) int64, padded with 0 behind each caption's end.
            lengths: (B,) int64, from 1 to T, on the CPU or where the words are. On CUDA captions are packed where they
                lie on the CPU; nothing is asked of it otherwise.

        Returns:
            word_features (B, D, T), 0 on padding, and sentence_feature (B, D): the last state of each direction.
        """
        embedded = self.dropout(self.embedding(word_ids))
        read = read_turned if lengths.device == embedded.device else read_packed
        features, last = read(self.lstm, embedded, lengths)
        return features.transpose(1, 2), last


def read_packed(lstm: nn.LSTM, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Read captions as packed sequences, both directions at once: cuDNN's way.

    Args:
        lstm: bi-directional, one layer, batch first.
        embedded: (B, T, E).
        lengths: (B,) int64, words of each caption.

    Returns:
        states (B, T, D), 0 on padding, and last states (B, D), those of the forward direction first.
    """
    # Sorted here and not in pack_padded_sequence, which would wait for the device, as would unpacking.
    falling, order = lengths.cpu().sort(descending=True)
    order, back = (each.to(embedded.device, non_blocking=True) for each in (order, order.argsort()))
    packed = pack_padded_sequence(embedded.index_select(0, order), falling, batch_first=True)
    states, (last, _) = lstm(packed)
    states, _ = pad_packed_sequence(states, batch_first=True, total_length=embedded.shape[1])
    states, last = states.index_select(0, back), last.index_select(1, back)  # last: (2, B, D / 2)
    return states, last.transpose(0, 1).flatten(1)


def read_turned(lstm: nn.LSTM, embedded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Read padded captions, the backward direction each of them turned round; otherwise as `read_packed`.

    oneDNN's LSTM (and ONNX) reads no packed sequences; torch's own is slower.
    """
    places = torch.arange(embedded.shape[1], device=embedded.device)[None, :]
    is_word = (places < lengths[:, None]).unsqueeze(2)  # (B, T, 1)
    turned = (lengths[:, None] - 1 - places).clamp(min=0).unsqueeze(2)  # (B, T, 1)
    last = (lengths - 1)[:, None, None].expand(-1, 1, lstm.hidden_size)
    zero = embedded.new_zeros(1, embedded.shape[0], lstm.hidden_size)
    both = embedded, embedded.gather(1, turned.expand_as(embedded))
    there, back = (
        torch.lstm(words, (zero, zero), weights, True, 1, 0.0, torch.is_grad_enabled(), False, True)[0]
        for words, weights in zip(both, lstm.all_weights, strict=True)
    )
    ends = [states.gather(1, last).squeeze(1) for states in (there, back)]
    back = back.gather(1, turned.expand_as(back))
    return torch.cat([there, back], dim=2) * is_word, torch.cat(ends, dim=1)

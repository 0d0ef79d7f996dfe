"""The text encoder of the DAMSM: a bi-directional LSTM (section 3.2)."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


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
            lengths: (B,) int64, from 1 to T.

        Returns:
            word_features (B, D, T), 0 on padding, and sentence_feature (B, D): the last state of each direction.
        """
        # Sorted here and not in pack_padded_sequence, which would wait for the device, as would unpacking.
        falling, order = lengths.cpu().sort(descending=True)
        order, back = (each.to(word_ids.device, non_blocking=True) for each in (order, order.argsort()))
        embedded = self.dropout(self.embedding(word_ids)).index_select(0, order)
        states, (last, _) = self.lstm(pack_padded_sequence(embedded, falling, batch_first=True))
        features, _ = pad_packed_sequence(states, batch_first=True, total_length=word_ids.shape[1])  # (B, T, D)
        features, last = features.index_select(0, back), last.index_select(1, back)  # last: (2, B, D / 2)
        return features.transpose(1, 2), last.transpose(0, 1).flatten(1)  # forward first

"""What all discriminators have in common, and the paper's: one a resolution (section 3.1, Eq. 5 and 6)."""

import abc
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm as with_spectral_norm

from attngan.models.layers import DownBlock, LeakyBlock, initialise_


class ConditionalDiscriminator(nn.Module, abc.ABC):
    """Tells real pictures from generated ones, with their sentence and maybe without; outputs are logits.

    A subclass says what it sees in pictures, and judges that.
    """

    has_batch_norm = False
    unconditional: nn.Module | None  # the output that sees no sentence, where there is one

    @abc.abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to what is judged (B, ...)."""

    @abc.abstractmethod
    def judge_pair(self, features: Tensor, sentence_feature: Tensor) -> Tensor:
        """Return the conditional logits (B, ...): is it a real picture of this sentence?

        Args:
            features: of `features`.
            sentence_feature: (B, D).
        """

    def judge(self, features: Tensor) -> Tensor:
        """Return the unconditional logits (B,): is it a real picture?"""
        assert self.unconditional is not None
        return self.unconditional(features).flatten()

    def each(self, part: Callable[..., Tensor], *batches: tuple[Tensor, ...]) -> Sequence[Tensor]:
        """Return what a part of this network makes of several batches, of each kind of pictures one.

        With batch norm they pass one after the other, since its statistics are those of a batch; without, all at once.

        Args:
            part: `features`, `judge` or `judge_pair`.
            batches: the arguments of `part` for each.
        """
        if self.has_batch_norm:
            return [part(*batch) for batch in batches]
        joined = part(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))
        return joined.split([len(batch[0]) for batch in batches])

    def forward(self, images: Tensor, sentence_feature: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return unconditional logits, None without that output, and conditional logits.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            sentence_feature: (B, D).
        """
        features = self.features(images)
        alone = None if self.unconditional is None else self.judge(features)
        return alone, self.judge_pair(features, sentence_feature)


class Discriminator(ConditionalDiscriminator):
    """Tells real pictures from generated ones, with and without their sentence; both outputs are logits.

    Args:
        resolution: side of its pictures in pixels, a power of two from 16.
        text_dim: D.
        channels: N_d, after the first layer.
        spectral_norm: bound the gain of each layer below the outputs (Miyato et al. 2018) in place of batch norm, which
            the paper has.
        unconditional: False leaves out the output that sees no sentence.
    """

    def __init__(
        self,
        *,
        resolution: int,
        text_dim: int = 256,
        channels: int = 64,
        spectral_norm: bool = False,
        unconditional: bool = True,
    ):
        super().__init__()
        num_halvings = (resolution // 4).bit_length() - 1
        widths = [3, *(channels * 2**step for step in range(num_halvings))]
        self.has_batch_norm = batch_norm = not spectral_norm
        self.encode = nn.Sequential(
            DownBlock(3, channels, batch_norm=False, bias=spectral_norm),
            *(
                DownBlock(narrow, wide, batch_norm=batch_norm, bias=spectral_norm)
                for narrow, wide in zip(widths[1:], widths[2:], strict=False)
            ),
        )
        width = widths[-1]
        while width > 8 * channels:
            self.encode.append(LeakyBlock(width, width // 2, batch_norm=batch_norm))
            width //= 2
        self.unconditional = nn.Conv2d(width, 1, 4, stride=4) if unconditional else None
        self.join = LeakyBlock(width + text_dim, width, batch_norm=batch_norm)
        self.conditional = nn.Conv2d(width, 1, 4, stride=4)
        initialise_(self)
        if spectral_norm:
            # The two outputs stay free: how sure a discriminator may be is not bounded, only how it sees.
            for module in [*self.encode.modules(), *self.join.modules()]:
                if isinstance(module, nn.Conv2d):
                    with_spectral_norm(module)

    def features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) in [-1, 1] to features (B, C, 4, 4)."""
        return self.encode(images)

    def judge_pair(self, features: Tensor, sentence_feature: Tensor) -> Tensor:
        """Return the conditional logits (B,): is it a real picture of this sentence?"""
        sentence = sentence_feature[:, :, None, None].expand(-1, -1, *features.shape[2:])
        return self.conditional(self.join(torch.cat([features, sentence], dim=1))).flatten()

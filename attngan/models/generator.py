"""The attentional generator: conditioning augmentation F_ca and the stages F_0, F_1, F_2 (section 3.1)."""

import dataclasses

import torch
from torch import Tensor, nn

from attngan.models.attention import attend_words
from attngan.models.layers import GatedLinearUnit, ResidualBlock, UpBlock, conv3x3, initialise_


@dataclasses.dataclass(frozen=True)
class Generated:
    """What the generator gives for B captions."""

    images: list[Tensor]  # coarse to fine, each (B, 3, H, W) in [-1, 1]
    attention: list[Tensor]  # one (B, T, H, W) for each refinement, at the side of the stage before it
    mean: Tensor  # (B, A), of the conditioning augmentation
    log_variance: Tensor  # (B, A)


class ConditioningAugmentation(nn.Module):
    """F_ca: draws the condition from a Gaussian around the sentence (Zhang et al., StackGAN, 2017)."""

    def __init__(self, *, text_dim: int, condition_dim: int):
        super().__init__()
        self.project = nn.Linear(text_dim, 4 * condition_dim)
        self.gate = GatedLinearUnit()

    def forward(self, sentence_feature: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return condition, mean and log_variance, each (B, A).

        Args:
            sentence_feature: (B, D).
            epsilon: (B, A), standard normal.
        """
        mean, log_variance = self.gate(self.project(sentence_feature)).chunk(2, dim=1)
        return mean + epsilon * (0.5 * log_variance).exp(), mean, log_variance


class InitialStage(nn.Module):
    """F_0: condition and noise -> hidden features at the coarsest resolution."""

    def __init__(self, *, condition_dim: int, noise_dim: int, channels: int, resolution: int, upsampling: str):
        super().__init__()
        num_doublings = (resolution // 4).bit_length() - 1
        self.widest = channels * 2**num_doublings
        self.project = nn.Sequential(
            nn.Linear(condition_dim + noise_dim, 2 * self.widest * 4 * 4, bias=False),
            nn.BatchNorm1d(2 * self.widest * 4 * 4),
            GatedLinearUnit(),
        )
        widths = [self.widest // 2**step for step in range(num_doublings + 1)]
        self.upsample = nn.Sequential(
            *(UpBlock(wide, narrow, upsampling=upsampling) for wide, narrow in zip(widths, widths[1:], strict=False))
        )

    def forward(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Map (B, A) and (B, Z) to hidden (B, C, H, W)."""
        hidden = self.project(torch.cat([condition, noise], dim=1)).unflatten(1, (self.widest, 4, 4))
        return self.upsample(hidden)


class RefinementStage(nn.Module):
    """F_i: looks at the words from every position, refines, and doubles the resolution."""

    def __init__(self, *, channels: int, text_dim: int, num_residual_blocks: int, upsampling: str):
        super().__init__()
        self.project_words = nn.Conv1d(text_dim, channels, 1, bias=False)
        self.residual = nn.Sequential(*(ResidualBlock(2 * channels) for _ in range(num_residual_blocks)))
        self.upsample = UpBlock(2 * channels, channels, upsampling=upsampling)

    def forward(self, hidden: Tensor, word_features: Tensor, is_padding: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden (B, C, 2H, 2W) and attention (B, T, H, W).

        Args:
            hidden: (B, C, H, W).
            word_features: (B, D, T).
            is_padding: (B, T), True where the caption has no word.
        """
        word_context, attention = attend_words(hidden, self.project_words(word_features), is_padding)
        refined = self.residual(torch.cat([hidden, word_context], dim=1))
        return self.upsample(refined), attention


class Generator(nn.Module):
    """Draws pictures, coarse to fine, from a sentence feature, its words and noise.

    Args:
        text_dim: D.
        resolutions: sides of the pictures in pixels, coarse to fine, each twice the one before.
        channels: N_g, of the hidden features.
        noise_dim: Z.
        condition_dim: A.
        num_residual_blocks: in each refinement.
        num_stages: each doubles the resolution of the one before, and the last ones draw; None: all of them draw.
        upsampling: how features are enlarged, "nearest" or "bilinear".
    """

    def __init__(
        self,
        *,
        text_dim: int = 256,
        resolutions: list[int] | tuple[int, ...] = (64, 128, 256),
        channels: int = 32,
        noise_dim: int = 100,
        condition_dim: int = 100,
        num_residual_blocks: int = 2,
        num_stages: int | None = None,
        upsampling: str = "nearest",
    ):
        super().__init__()
        self.resolutions = list(resolutions)
        self.noise_dim = noise_dim
        self.condition_dim = condition_dim
        self.augment_condition = ConditioningAugmentation(text_dim=text_dim, condition_dim=condition_dim)
        num_refinements = (num_stages or len(self.resolutions)) - 1
        coarsest = self.resolutions[-1] // 2**num_refinements
        self.initial = InitialStage(
            condition_dim=condition_dim,
            noise_dim=noise_dim,
            channels=channels,
            resolution=coarsest,
            upsampling=upsampling,
        )
        self.refinements = nn.ModuleList(
            RefinementStage(
                channels=channels,
                text_dim=text_dim,
                num_residual_blocks=num_residual_blocks,
                upsampling=upsampling,
            )
            for _ in range(num_refinements)
        )
        self.to_image = nn.ModuleList(nn.Sequential(conv3x3(channels, 3), nn.Tanh()) for _ in self.resolutions)
        initialise_(self)

    def forward(
        self,
        noise: Tensor,
        sentence_feature: Tensor,
        word_features: Tensor,
        is_padding: Tensor,
        *,
        epsilon: Tensor,
    ) -> Generated:
        """Draw one picture a caption at every resolution.

        Args:
            noise: (B, Z), standard normal.
            sentence_feature: (B, D).
            word_features: (B, D, T).
            is_padding: (B, T), True where the caption has no word.
            epsilon: (B, A), standard normal noise of the conditioning augmentation.
        """
        condition, mean, log_variance = self.augment_condition(sentence_feature, epsilon)
        hidden = self.initial(condition, noise)
        images, attentions = [], []
        first_drawing = 1 + len(self.refinements) - len(self.to_image)
        for stage in range(1 + len(self.refinements)):
            if stage > 0:
                hidden, attention = self.refinements[stage - 1](hidden, word_features, is_padding)
                attentions.append(attention)
            if stage >= first_drawing:
                images.append(self.to_image[stage - first_drawing](hidden))
        return Generated(images=images, attention=attentions, mean=mean, log_variance=log_variance)

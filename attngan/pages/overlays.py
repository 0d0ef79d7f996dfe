"""Where the generator looks at a word: its attention over the picture (section 3.1, Eq. 2; figure 4)."""

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def attention_overlays(
    attention: Tensor, words: list[str], picture: Image.Image, count: int
) -> list[tuple[str, Image.Image]]:
    """Show for the words attended to most where they are attended to: the picture, dark where a word is not.

    Args:
        attention: (T, H, W) of one picture, summing to 1 over T.
        words: the T words.
        picture: what the generator drew.
        count: how many words.

    Returns:
        Each word with its picture, in the caption's order.
    """
    # As in the released code, a word's weight is the attention it has beyond twice its fair share.
    is_strong = attention > 2 / len(words)
    strength = (attention * is_strong).sum(dim=(1, 2))
    strongest = sorted(strength.topk(min(count, len(words))).indices.tolist())  # in the caption's order
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(picture.height, picture.width, 3)
    overlays = []
    for index in strongest:
        heat = attention[index] / attention[index].max().clamp(min=1e-8)
        heat = functional.interpolate(
            heat[None, None].cpu(), (picture.height, picture.width), mode="bicubic", align_corners=False
        )[0, 0].clamp(0, 1)
        lit = pixels * (0.12 + 0.88 * heat)[:, :, None]
        overlays.append((words[index], Image.fromarray(lit.to(torch.uint8).numpy())))
    return overlays

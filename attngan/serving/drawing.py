"""A caption -> variants with the attention of their words, as the server shows them."""

import dataclasses

from PIL import Image

from attngan.inference.text_to_image import TextToImage
from attngan.pages import pictures
from attngan.pages.overlays import attention_overlays

SHOWN_WORDS = 6  # those attended to most
SHOWN_SIDE = 256  # pixels of an overlay, at least


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What came of a caption.

    Args:
        pictures: each variant at the model's own size, the same as `attngan generate` draws.
        overlays: for each variant the words attended to most, with the picture lit where each is attended to; none
            where the generator has one stage.
        notes: what was not understood.
    """

    pictures: list[Image.Image]
    overlays: list[list[tuple[str, Image.Image]]]
    notes: list[str]


def draw(model: TextToImage, caption: str, *, num_images: int, seed: int) -> Drawn:
    """Draw a caption several times, each from other noise; InputError where the model knows none of its words."""
    words = model.vocabulary.decode(model.read([caption])[0][0].tolist())
    drawn, overlays = [], []
    for generated in model.variants(caption, num_images, seed):
        drawn += pictures.to_pictures(generated.images[-1])
        large = pictures.to_pictures(generated.images[-1], side=max(SHOWN_SIDE, generated.images[-1].shape[-1]))
        attention = generated.attention[-1] if generated.attention else [None] * len(large)
        overlays += [
            [] if maps is None else attention_overlays(maps, words, picture, SHOWN_WORDS)
            for maps, picture in zip(attention, large, strict=True)
        ]
    return Drawn(drawn, overlays, model.notes(caption))

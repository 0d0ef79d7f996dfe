"""What a measurement comes to: a number, how sure it is, and what it was made from."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number.

    Args:
        value: of all pictures.
        low: end of the 95 % interval.
        high: the other end.
        generated: how many pictures were judged.
        reference: how many real ones they were compared with, 0 where there is no comparison.
        features: name of the extractor; "" where no network sees the picture.
        candidates: captions that each picture chose among, 0 where it did not choose.
    """

    value: float
    low: float
    high: float
    generated: int
    reference: int = 0
    features: str = ""
    candidates: int = 0


Figures = dict[str, dict[str, Figure]]  # metric -> whose pictures ("generated", or a control) -> figure

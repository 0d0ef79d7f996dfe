"""What settings are made of: sections, and the numbers and texts that fit in them.

Every number has both bounds and every text a length: settings come from strangers too, inside of bundles and pipelines,
and what is far beyond any use is refused before memory or time is spent on it.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from attngan.config.bounds import FEW, LARGEST, LONGEST, MOST, WIDEST


def _writable(text: str) -> str:
    if "\0" in text:
        raise ValueError("expected text, found NUL in it")
    return text


def _switched(value: Any) -> Any:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Count = Annotated[int, Field(ge=1, le=MOST)]
Natural = Annotated[int, Field(ge=0, le=MOST)]  # 0 is one
Few = Annotated[int, Field(ge=1, le=FEW)]
FewOrNone = Annotated[int, Field(ge=0, le=FEW)]
Several = Annotated[int, Field(ge=2, le=FEW)]
Group = Annotated[int, Field(ge=2, le=10_000)]  # of which each is compared with each: their square is in memory
Width = Annotated[int, Field(ge=1, le=WIDEST)]
Batch = Annotated[int, Field(ge=1, le=2**16)]  # pictures that a network sees at once: the largest batches in use
PairedBatch = Annotated[int, Field(ge=2, le=2**16)]  # one that holds wrong pairs too
Side = Annotated[int, Field(ge=1, le=2048)]  # pixels: twice each way what the largest published GANs draw
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Text = Annotated[str, Field(max_length=LONGEST), AfterValidator(_writable)]  # strict mode refuses half a surrogate pair
# YAML reads on, off, true, yes ... as true or false.
Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switched)]
Digest = Annotated[str, Field(max_length=64, pattern="^[0-9a-fA-F]*$")]  # of sha256, or its first digits


INCIDENTAL = "incidental"  # marks a setting: where a run happens, how often it saves, what it costs; not what it makes


class Section(BaseModel):
    """A frozen group of settings that refuses unknown names and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def shaping(self) -> dict[str, Any]:
        """Return the settings that shape what a run makes and differ from their defaults, as JSON holds them.

        What a run is known by: a setting that is new does not make another run of those from before it.
        """
        dumped = self.model_dump(mode="json", exclude_defaults=True)
        shaping = {
            name: value.shaping() if isinstance(value := getattr(self, name), Section) else dumped[name]
            for name, field in type(self).model_fields.items()
            if name in dumped and INCIDENTAL not in field.metadata
        }
        return {name: value for name, value in shaping.items() if value != {}}

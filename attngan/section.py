"""What settings are made of: sections, and the numbers that fit in them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]  # 0 is one
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


INCIDENTAL = "incidental"  # marks a setting: where a run happens, how often it saves, what it costs; not what it makes


class Section(BaseModel):
    """A frozen group of settings that refuses unknown names and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def shaping(self) -> dict[str, Any]:
        """Return the settings that shape what a run makes, as JSON holds them: all but the incidental ones."""
        dumped = self.model_dump(mode="json")
        return {
            name: value.shaping() if isinstance(value := getattr(self, name), Section) else dumped[name]
            for name, field in type(self).model_fields.items()
            if INCIDENTAL not in field.metadata
        }

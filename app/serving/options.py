"""What a request asks."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _split(value: Any) -> Any:
    return [part.strip() for part in value.strip().removesuffix(",").split(",")] if isinstance(value, str) else value


def _not_a_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected an integer, not a boolean")
    return value


Count = Annotated[int, Field(ge=1), BeforeValidator(_not_a_boolean)]


class Options(BaseModel):
    """Options of a request, as form fields, JSON members or query parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: Count | None = Field(None, description="Keep only the best k languages in the list.")
    languages: Annotated[tuple[str, ...] | None, BeforeValidator(_split)] = Field(
        None, min_length=1, description="Candidates, such as `en,fr`: the others get no probability."
    )
    windows: Count | None = Field(
        None, description="Listen to so many windows, if the track has them; default: until the answer is sure."
    )
    timeline: bool = Field(False, description="Listen to the whole track, and answer for each window as well.")
    explain: bool = Field(False, description="Also answer from the audio alone and from the text alone.")
    tags: bool = Field(True, description="Read the file's own tags when no metadata is given.")
    lyrics_from_tags: bool = Field(
        False, description="Read the lyrics in the file's tags when none are given, where the release reads lyrics."
    )

    @property
    def listens_to_all(self) -> bool:
        """Listen to every planned window, even if the first ones are sure."""
        return self.timeline or self.windows is not None

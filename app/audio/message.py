"""What a decoding process answers, before the samples: nothing that it sends is believed unchecked."""

from typing import Annotated

import pydantic

from app.audio.wire import Header, PeerGoneError
from app.domain import AudioWarning, FloatArray, Metadata, Recording, Window


class Answer(pydantic.BaseModel):
    """A `Recording` but for the samples of its windows. A decoder that a hostile file took over may send anything."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    seconds: float
    windows: list[tuple[float, float]]  # seconds at which they start, seconds that they cover
    format: str
    warnings: Annotated[tuple[AudioWarning, ...], pydantic.Field(max_length=8)]
    tags: Metadata | None
    lyrics: str | None
    next_index: int
    planned: int

    def recording(self, samples: FloatArray) -> Recording:
        """`samples`: (n_windows, window_samples)."""
        rows = zip(self.windows, samples, strict=True)
        windows = tuple(Window(start, seconds, row) for (start, seconds), row in rows)
        return Recording(**dict(self) | {"windows": windows})


def read_answer(header: Header, max_windows: int) -> Answer:
    """Raises PeerGoneError for anything but a true answer, such as one of more windows than were requested."""
    try:
        answer = Answer.model_validate(header)
    except pydantic.ValidationError as error:
        raise PeerGoneError from error
    if len(answer.windows) > max_windows:
        raise PeerGoneError
    return answer

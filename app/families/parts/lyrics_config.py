"""How lyrics are read, as it stands in a manifest. No torch: a release is listed without it."""

from pydantic import Field

from app.families.contract import Name, Strict


class LyricsConfig(Strict):
    """How lyrics are read."""

    max_characters: int = Field(16_000, gt=0)  # that a request may give
    read_characters: int = Field(800, gt=0)  # of which the profiles see so many: whole lines, spread over the song
    profile_exponent: float = Field(0.5, gt=0)  # of the evidence of k n-grams over sqrt(k); by lab/training/verses.json
    classes: dict[str, Name]  # by langdetect's code, where the class has another: {"zh-cn": "zh", "hr": "sh", ...}

"""The numbers of an n-gram reader, as they stand in the manifest of a release."""

from pydantic import Field, field_validator

from app.families.contract import Name, Strict

N_FIELDS = 3  # artist, album, title
MOST_MIX_ERROR = 1e-3  # shares are written with few digits


class Script(Strict):
    """Characters that go together: a script, or a part of one that tells languages apart."""

    name: Name
    ranges: list[tuple[int, int]] = Field(min_length=1)  # code points, both ends included


def default_scripts() -> list[Script]:
    """Blocks of Unicode that song titles of the world are written in."""
    blocks: dict[str, list[tuple[int, int]]] = {
        "digit": [(0x30, 0x39)],
        "latin": [(0x41, 0x5A), (0x61, 0x7A)],
        "latin-accented": [(0xC0, 0x24F), (0x1E00, 0x1EFF)],
        "greek": [(0x370, 0x3FF), (0x1F00, 0x1FFF)],
        "cyrillic": [(0x400, 0x52F)],
        "armenian": [(0x530, 0x58F)],
        "georgian": [(0x10A0, 0x10FF)],
        "hebrew": [(0x590, 0x5FF)],
        "arabic": [(0x600, 0x6FF), (0x750, 0x77F)],
        "devanagari": [(0x900, 0x97F)],
        "bengali": [(0x980, 0x9FF)],
        "gurmukhi": [(0xA00, 0xA7F)],
        "gujarati": [(0xA80, 0xAFF)],
        "tamil": [(0xB80, 0xBFF)],
        "telugu": [(0xC00, 0xC7F)],
        "kannada": [(0xC80, 0xCFF)],
        "malayalam": [(0xD00, 0xD7F)],
        "sinhala": [(0xD80, 0xDFF)],
        "thai": [(0xE00, 0xE7F)],
        "khmer": [(0x1780, 0x17FF)],
        "other-asian": [(0xB00, 0xB7F), (0xE80, 0x109F), (0x1200, 0x137F)],  # Odia; Lao, Tibetan, Burmese; Ethiopic
        "hangul": [(0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7AF)],
        "kana": [(0x3040, 0x30FF)],
        "han": [(0x3400, 0x4DBF), (0x4E00, 0x9FFF)],
    }
    return [Script(name=name, ranges=ranges) for name, ranges in blocks.items()]


class NgramConfig(Strict):
    """Metadata → posterior over the classes.

    The input of each network: for each field the sum of the vectors of its n-grams over the square root of their number;
    how well langdetect's profiles explain each field and all together; shares of each field's characters by script; and
    1 for each field that is given. The answer is the softmax of the networks' mean logits.
    """

    max_characters: int = Field(200, gt=0)  # of a field; the rest is not read
    max_ngram: int = Field(5, ge=1, le=8)  # characters; shorter ones count too, and words and pairs of words
    buckets_log2: int = Field(16, ge=4, le=22)  # n-grams share 2 ** this vectors, by their hash
    embedding_size: int = Field(32, gt=0)  # of one network
    networks: int = Field(3, ge=1)  # side by side; they differ in their seed
    hidden_units: list[int] = Field(default=[384, 256], min_length=1)  # of one network, layer by layer
    class_mix: dict[Name, float] = Field(min_length=2)  # the classes in order, and their shares in the answers
    languages: list[str] = Field(min_length=1)  # of langdetect's profiles, sorted
    smoothing: float = Field(5e-5, gt=0)  # added to each of their probabilities: langdetect's 0.5 / 10,000
    scripts: list[Script] = Field(default_factory=default_scripts, min_length=1)

    @field_validator("class_mix")
    @classmethod
    def _is_a_mix(cls, mix: dict[str, float]) -> dict[str, float]:
        if min(mix.values()) <= 0 or abs(sum(mix.values()) - 1) > MOST_MIX_ERROR:
            raise ValueError("class_mix: shares must be over 0 and add up to 1")
        return mix

    @property
    def n_buckets(self) -> int:
        return 1 << self.buckets_log2  # 65,536

    @property
    def n_counted(self) -> int:
        """Inputs that are not learnt: two views of the profiles on four texts, script shares and presence of three."""
        return 2 * (N_FIELDS + 1) * len(self.languages) + N_FIELDS * (len(self.scripts) + 1)

    @property
    def n_inputs(self) -> int:
        """Inputs of one network."""
        return N_FIELDS * self.embedding_size + self.n_counted

"""Many names at once are answered as the service answers each of them."""

import asyncio
from collections.abc import Sequence

import pytest

from app.catalogue.names import load_names, scored_by_names
from app.catalogue.rows import Scored
from app.domain import LYRICS, Metadata, Track
from app.http.options import Options
from app.local import local_identifier
from app.settings import Settings

VERSE = "Je suis resté devant la porte\navec mes fleurs et mon chagrin\net la pluie qui tombait toujours"
SONGS = [
    Metadata("Édith Piaf", None, "La vie en rose"),
    Metadata(None, None, "1999"),
    Metadata(),
    Metadata("井上陽水", "氷の世界", "夢の中へ (Official Video)"),
    Metadata(None, "Unknown Album", "Track 01"),
    Metadata("Ночь", None, "&amp; 99"),
    Metadata("\ud800", "ABBA", "Dancing Queen"),
    *[Metadata("Los Olvidados", title=f"El mar y tú {n}") for n in range(60)],
]


async def as_the_service(settings: Settings, songs: Sequence[Track]) -> list[Scored]:
    found = []
    async with local_identifier(settings, listen=False) as identifier:
        for song in songs:
            answered = await identifier.answer(None, song, Options(top_k=2))
            found.append(
                Scored.of(answered.answer) if answered.answer else Scored(error=str(answered.error and answered.error.code))
            )
    return found


@pytest.mark.parametrize("model", ["lrid_voice", "lrid_net"])
def test_answers_are_those_of_the_service(model: str) -> None:
    settings = Settings(model=model, device="cpu", engine="torch")
    songs = [Track(None, names) for names in SONGS]
    if model == "lrid_voice":
        songs += [Track(None, names, {LYRICS: VERSE}) for names in (Metadata(), Metadata("ABBA", None, "Waterloo"))]
    answer = load_names(settings)
    many, each = answer(songs), asyncio.run(as_the_service(settings, songs))
    assert [one[:1] + one[2:3] + one[4:] for one in many] == [one[:1] + one[2:3] + one[4:] for one in each]
    for numbers in (lambda one: one.probability, lambda one: one.runner_up_probability):
        assert list(map(numbers, many)) == pytest.approx(list(map(numbers, each)), abs=2e-6)
    assert {one.error for one in many} == {"", "nothing_given", "nothing_usable"}
    if model == "lrid_voice":
        assert [(one.language, one.modalities) for one in many[-2:]] == [("fr", "lyrics"), ("fr", "text+lyrics")]
    long = Track(None, Metadata(title="La vie en rose"), {LYRICS: "x" * 100_000})
    codes = [one.error for one in answer([Track(None, Metadata(title="x" * 100_000)), long])]
    assert codes == ["metadata_too_long", "metadata_too_long" if model == "lrid_voice" else ""]


def test_a_row_that_fails_costs_only_itself() -> None:
    def answer(songs: Sequence[Track]) -> list[Scored]:
        if any(song.metadata.title == "bad" for song in songs):
            raise ZeroDivisionError
        return [Scored(str(song.metadata.title)) for song in songs]

    songs = [Track(None, Metadata(title=title)) for title in ("a", "bad", "c")]
    assert scored_by_names(answer, songs) == [Scored("a"), Scored(error="internal_error"), Scored("c")]

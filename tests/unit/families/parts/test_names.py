"""What programs and catalogues write around a name does not change it; what people write stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import Metadata
from app.families.parts.names import clean, clean_name


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "Track 01", "track12", "Audio Track 3", "AudioTrack 07", "01 Track 1", "Track #3", "Track 1 of 12",
        "CD Track 4", "Untitled 2", "Unknown Album (2/3/2009 5:05:12 PM)", "Album inconnu (12/03/2004 10:22:11)",
        "Sin título", "Без названия", "???", "-", "未知歌手", "Varios Artistas", "V/A",
        "Piste 4", "Titel 5", "Дорожка 2", "トラック 1",
        "Unknown Artist", "unknown", "[unknown]", "<Unknown>", "(unknown album)", "undefined", "null", "None", "NaN", "N/A",
        "Various Artists", "VA", "Untitled", "Unbekannter Interpret", "Artiste inconnu", "Artista desconocido",
        "Titre 3", "Unbekanntes Album", "未知藝人", "Okänd artist", "Nieznany wykonawca", "New Recording 12", "Voice 003",
        "Track 1.mp3", "WhatsApp Audio 2023-05-01 at 10.00.00", "AUD-20230501-WA0001", "Track 01 - Unknown",
        "Неизвестный исполнитель", "\u200bnull\u200b", "&#91;unknown&#93;",
    ],
)  # fmt: skip
def test_placeholders_are_no_text(text: str) -> None:
    assert clean_name(text) is None


@pytest.mark.parametrize(
    "kept",
    ["Nullpunkt", "Tracks of My Tears", "The Unknown", "Nana", "Piste noire", "Va, pensiero", "Voice", "Titanium.mp3"],
)
def test_names_that_look_like_placeholders_are_kept(kept: str) -> None:
    assert clean_name(kept) == kept


ADDED = (
    "{} (Official Video)", "{} [Official Music Video]", "{} (Official Lyric Video) [HD]", "{} [dQx4w9WgXcQ]", "{} (Lyrics)",
    "{} (feat. Someone Else)", "{} [ft. Someone]", "{} feat. Someone", "{} featuring Some One", "{} ft. Someone (Live)",
    "{} - Remastered 2011", "{} (2011 Remaster)", "{} – Remastered Version", "{} (Live)", "{} - Radio Edit",
    "{} (Album Version)", "{} | Official Audio", "{} Official Video HD", "{}【Official Video】",
    "\u200b{}\ufeff", "{}\u00ad", "  {} ", "{} (Bonus Track)",
)  # fmt: skip


@pytest.mark.parametrize("pattern", ADDED)
@pytest.mark.parametrize("name", ["Sous le ciel de Paris", "夜に駆ける", "Niña de fuego (a mi madre)", "99 Luftballons"])
def test_additions_are_taken_away(name: str, pattern: str) -> None:
    assert clean_name(pattern.format(name)) == name


@pytest.mark.parametrize(
    "kept",
    [
        "Live", "(Live)", "Video Killed the Radio Star", "Radio Radio", "6 ft under", "Featuring nobody", "Lyrics Born",
        "Alabama Song (Whisky Bar)", "Sin ti (En vivo)", "Maria (Versión acústica)", "Artist - Video", "Pink Floyd - Time",
        "Mix", "[Interludium]", "AT&T", "R&B", "A&R;", "SÃO PAULO", "Ã", "Naïve", "Über", "Żółć", "می\u200cخواهم",
    ],
)  # fmt: skip
def test_what_people_write_stays(kept: str) -> None:
    assert clean_name(kept) == kept


@pytest.mark.parametrize(
    "name", ["Beyoncé", "Été à São Paulo", "Привет", "사랑해", "愛の讃歌", "Dvořák – Rusalka", "naïve “ça”"]
)
def test_text_encoded_twice_is_repaired(name: str) -> None:
    assert clean_name(name.encode().decode("latin-1")) == name
    assert clean_name("".join(map(_as_windows_1252, name.encode()))) == name
    assert clean_name(name.encode().decode("latin-1").encode().decode("latin-1")) == name


def _as_windows_1252(byte: int) -> str:
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


def test_entities_and_accents_are_composed() -> None:
    assert clean_name("Tom&#39;s &amp; Zoe&#x301;") == "Tom's & Zoé"
    assert clean_name("&amp;quot;Été&amp;quot;") == '"Été"'
    assert clean_name("Cafe\u0301") == "Café"


def test_a_placeholder_among_fields_is_not_given() -> None:
    metadata = clean(Metadata(artist="Unknown Artist", album=None, title="La mer (Remastered)"))
    assert metadata == Metadata(title="La mer")
    assert metadata.fields == ("title",)


@given(text=st.text(max_size=300))
def test_any_text_is_none_or_text_without_spaces_around(text: str) -> None:
    cleaned = clean_name(text)
    assert cleaned is None or (cleaned and cleaned.strip() == cleaned)


@pytest.mark.parametrize(
    ("written", "encoding", "read_as"),
    [
        ("Лидия Русланова", "cp1251", "latin-1"),
        ("上を向いて歩こう", "cp932", "latin-1"),
        ("L’été à Žižkov", "cp1252", "latin-1"),
    ],
)
def test_encodings_of_one_country_are_repaired_where_it_is_certain(written: str, encoding: str, read_as: str) -> None:
    assert clean_name(written.encode(encoding).decode(read_as)) == written


@pytest.mark.parametrize("kept", ["Été", "à", "Ö", "Øå", "Üçüncü", "Á¶¿ëÇÊ", "Ça va là où tu es"])
def test_accents_are_no_cyrillic(kept: str) -> None:
    assert clean_name(kept) == kept

"""Lyrics: what is taken away from them, how much is read, and that the shipped release tells languages apart by them."""

from pathlib import Path

import numpy as np
import pytest

from app.domain import LYRICS, TEXT, FloatArray, Metadata, Track
from app.errors import ReleaseError
from app.families.contract import InputBranch
from app.families.golden import GoldenCase, answer, load_golden
from app.families.lrid_voice.identify import WindowScores
from app.families.lrid_voice.manifest import VoiceManifest
from app.families.lrid_voice.model import NamesBranch, VoiceModel
from app.families.parts.lyrics import LyricsBranch, excerpt, sung_lines
from app.families.store import GOLDEN, load_model, read_weights
from app.families.tasks import View
from app.lab.training.voice_lyrics import report, verses
from app.settings import Settings

NURSERY_RHYMES = {  # nobody's: title, and how it begins
    "de": (
        "Fuchs, du hast die Gans gestohlen",
        "Fuchs, du hast die Gans gestohlen, gib sie wieder her,\nsonst wird dich der Jäger holen",
    ),
    "el": ("Φεγγαράκι μου λαμπρό", "Φεγγαράκι μου λαμπρό,\nφέγγε μου να περπατώ,\nνα πηγαίνω στο σχολειό"),
    "en": (
        "Baa, Baa, Black Sheep",
        "Baa, baa, black sheep, have you any wool?\nYes, sir, yes, sir, three bags full,\n"
        "one for the master, and one for the dame,\nand one for the little boy who lives down the lane",
    ),
    "es": ("Arroz con leche", "Arroz con leche me quiero casar\ncon una señorita de la capital"),
    "fi": ("Kolme varista", "Kolme varista istui aidalla, silivati seilaa,\nyksi lensi pois"),
    "fr": ("Au clair de la lune", "Au clair de la lune, mon ami Pierrot,\nprête-moi ta plume pour écrire un mot"),
    "hu": ("Boci, boci tarka", "Boci, boci tarka, se füle, se farka,\noda megyünk lakni, ahol tejet kapni"),
    "it": ("Piove, piove", "Piove, piove, la gatta non si muove,\nla fiamma traballa, la mucca è nella stalla"),
    "pl": ("Wlazł kotek na płotek", "Wlazł kotek na płotek i mruga,\nładna to piosenka, niedługa"),
    "pt": ("Marcha soldado", "Marcha soldado, cabeça de papel,\nse não marchar direito vai preso pro quartel"),
    "sh": ("Zec kopa repu", "Zec kopa repu, a lisica cveklu,\nvuk im se prikrade, zeca da ukrade"),
    "uk": ("Котику сіренький", "Котику сіренький, котику біленький,\nкотку волохатий, не ходи по хаті"),
}
ROOT = Path(__file__).resolve().parents[4]
RELEASE = ROOT / "model_store" / Settings().model


@pytest.fixture(scope="module")
def shipped() -> VoiceModel:
    model = load_model(RELEASE)
    assert isinstance(model, VoiceModel)
    return model


@pytest.fixture(scope="module")
def branch(shipped: VoiceModel) -> InputBranch:
    return shipped.inputs[LYRICS]


def lyrics(text: object) -> Track:
    return Track(None, Metadata(), {LYRICS: text})


@pytest.mark.parametrize(
    ("written", "sung"),
    [
        ("[00:12.34]one\n[00:15]two\r\n[01:02:03] three", ["one", "two", "three"]),
        ("[ar: Someone]\n[Chorus: Both]\nla la\n[Verse 2]\nlo lo", ["la la", "lo lo"]),
        ("Chorus:\nhey\nREFRAIN\n\n  ho \nhey", ["hey", "ho"]),
        ("<00:01.00>one <00:02.00>two (x2)", ["one  two"]),
        ("echo (echo) 【サビ】", ["echo (echo)"]),
        ("a chorus of birds", ["a chorus of birds"]),
        ("[unclosed\nline", ["[unclosed", "line"]),
        ("", []),
    ],
)
def test_stamps_and_marks_are_no_lyrics(written: str, sung: list[str]) -> None:
    assert [" ".join(line.split()) for line in sung_lines(written)] == [" ".join(line.split()) for line in sung]


def test_an_excerpt_is_spread_over_the_song_and_bounded() -> None:
    lines = [f"line number {i}" for i in range(200)]
    chosen = excerpt(lines, 300)
    assert sum(map(len, chosen)) <= 300
    assert chosen[0] == lines[0]
    assert lines.index(chosen[-2]) > 150
    assert excerpt(lines[:3], 300) == lines[:3]
    assert excerpt(["x" * 5000], 300) == ["x" * 300]
    assert excerpt([], 300) == []


def test_what_is_read_of_a_long_song_is_bounded(branch: LyricsBranch, monkeypatch: pytest.MonkeyPatch) -> None:
    fields, seen = branch._reader.fields, []
    explained = fields.explained

    def watched(text: str, most: int) -> tuple[FloatArray, int]:
        seen.append(len(text))
        return explained(text, most)

    monkeypatch.setattr(fields, "explained", watched)
    branch.read(lyrics("\n".join(f"word {i} and another word" for i in range(5000))))
    assert 700 <= seen[0] <= 800


@pytest.mark.parametrize("text", [None, "", " \n\t", 7])
def test_nothing_is_not_given(branch: InputBranch, text: object) -> None:
    assert branch.read(lyrics(text)) is None


def test_signs_and_figures_say_nothing(branch: InputBranch) -> None:
    reading = branch.read(lyrics("[Chorus]\n1 2 3 ♪♪\n(x4)"))
    assert reading is not None
    assert not reading.informative
    assert np.ptp(reading.vector) == 0


def test_verses_of_55_languages_are_told_apart(shipped: VoiceModel, branch: InputBranch) -> None:
    kept = verses(shipped.head.codes, "test") + verses(shipped.head.codes, "mismatched")
    assert len({verse.label for verse in kept}) >= 50
    wrong = []
    for verse in kept:
        reading = branch.read(lyrics(verse.cells[LYRICS]))
        assert reading is not None
        if (found := int(reading.vector.argmax())) != verse.label:
            wrong.append((shipped.head.codes[verse.label], shipped.head.codes[found]))
    assert len(wrong) <= 0.02 * len(kept), wrong


def test_lyrics_of_real_songs_tell_more_than_their_titles(shipped: VoiceModel) -> None:
    def right(title: bool, words: bool) -> set[str]:
        found = set()
        for code, (name, sung) in NURSERY_RHYMES.items():
            track = Track(None, Metadata(title=name if title else None), {LYRICS: sung} if words else {})
            read = {kind: reading.vector for kind, part in shipped.inputs.items() if (reading := part.read(track))}
            scores = shipped.combine(read, frozenset(read))
            found |= {code} & {shipped.head.codes[int(scores.probabilities.argmax())]}
        return found

    assert right(title=False, words=True) == set(NURSERY_RHYMES)
    assert right(title=True, words=True) >= set(NURSERY_RHYMES) - {"sh"}  # its title makes Slovene as likely: `und`
    assert len(right(title=True, words=False)) <= 9


def test_marks_do_not_change_what_lyrics_say(branch: InputBranch) -> None:
    plain, marked = (
        branch.read(lyrics("je t'attends\nla nuit")),
        branch.read(lyrics("[00:01.00]je t'attends\n[Pont]\nla nuit\n")),
    )
    assert plain is not None
    assert marked is not None
    np.testing.assert_array_equal(plain.vector, marked.vector)


def test_lyrics_are_believed_before_the_title(shipped: VoiceModel) -> None:
    case = GoldenCase(
        title="La vie est belle",
        further={LYRICS: "Summer came and I was standing on your street\nholding a suitcase and the wrong address"},
        probabilities=[],
    )
    assert shipped.head.codes[int(answer(shipped, case, None).argmax())] == "en"
    title_alone = case.model_copy(update={"further": {}})
    assert shipped.head.codes[int(answer(shipped, title_alone, None).argmax())] == "fr"


@pytest.mark.parametrize("vague", ["oh oh oh", "la la la la", "ooh ooh\nmmm", "instrumental", "Lyrics not available"])
def test_lyrics_that_tell_nothing_leave_a_sure_title_its_answer(shipped: VoiceModel, vague: str) -> None:
    titles = {"de": "Der Mond ist aufgegangen", "ja": "さくらさくら", "ko": "사랑해요", "ru": "Подмосковные вечера"}
    for code, title in titles.items():
        track = Track(None, Metadata(title=title), {LYRICS: vague})
        read = {kind: reading.vector for kind, part in shipped.inputs.items() if (reading := part.read(track))}
        said = shipped.task.answer(shipped.combine(read, frozenset(read)), frozenset(read), View())
        assert said["language"] == code


def test_sure_ears_are_not_outvoted_and_unsure_ones_are_helped(shipped: VoiceModel) -> None:
    """Against lyrics and names that are both sure of another language."""
    codes = shipped.head.codes
    french, english = codes.index("fr"), codes.index("en")

    def heard(p: float, english_too: float = 0.0) -> WindowScores:
        row = np.full(len(codes), (1 - p - english_too) / (len(codes) - 1), np.float32)
        row[french] = p
        row[english] += english_too
        return WindowScores(
            (np.log(row)[None] / shipped.head.config.song_scale).astype(np.float32),
            np.ones(1, np.float32),
            np.full(1, 5, np.float32),
        )

    sure = np.full(len(codes), 1e-6, np.float32)
    sure[english] = 1 - sure.sum()
    both = {LYRICS: sure, TEXT: sure}
    assert shipped.head.join(heard(0.99), both).probabilities.argmax() == french
    assert shipped.head.join(heard(0.85), {LYRICS: sure}).probabilities.argmax() == french
    assert shipped.head.join(heard(0.5, 0.3), {LYRICS: sure}).probabilities.argmax() == english


def test_without_lyrics_nothing_changes(shipped: VoiceModel) -> None:
    """The release before had no lyrics, the same weights, and the first ten cases of golden.json."""
    manifest = shipped.manifest
    experts = {name: expert for name, expert in manifest.identify.experts.items() if name != LYRICS}
    thresholds = {mode: least for mode, least in manifest.identify.thresholds.items() if LYRICS not in mode}
    identify = manifest.identify.model_copy(update={"experts": experts, "thresholds": thresholds})
    before = VoiceModel(manifest.model_copy(update={"lyrics": None, "identify": identify}), read_weights(RELEASE, manifest))
    assert set(before.inputs) == {TEXT}
    cases = [case for case in load_golden(RELEASE / GOLDEN).cases if case.audio is None and not case.further]
    assert len(cases) == 6
    for case in cases:
        np.testing.assert_array_equal(answer(before, case, None), answer(shipped, case, None))
        np.testing.assert_allclose(answer(shipped, case, None), case.probabilities, atol=1e-5)


def test_every_mode_with_lyrics_has_a_threshold(shipped: VoiceModel) -> None:
    thresholds = shipped.manifest.identify.thresholds
    assert {"lyrics", "audio+lyrics", "lyrics+text", "audio+lyrics+text"} <= thresholds.keys()
    assert thresholds["audio+lyrics"] == thresholds["audio"]


def test_a_class_that_the_release_lacks_is_named(shipped: VoiceModel) -> None:
    manifest, names = shipped.manifest, shipped.inputs[TEXT]
    assert isinstance(manifest, VoiceManifest)
    assert isinstance(names, NamesBranch)
    assert manifest.lyrics is not None
    with pytest.raises(ReleaseError, match=r"lyrics\.classes: 'tlh' is no class of the release"):
        LyricsBranch(manifest.lyrics.model_copy(update={"classes": {"hr": "tlh"}}), names.reader)


def test_the_report_has_a_line_for_each_kind(shipped: VoiceModel) -> None:
    lines = report(shipped).splitlines()
    assert len(lines) == 6
    assert "| other verses, lyrics alone | 55 | 1.000 |" in lines[3]

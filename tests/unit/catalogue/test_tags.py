"""Languages in tags: read back by others, audio untouched, and everything taken back to the byte."""

import base64
import importlib
import io
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from mediafile import MediaFile

from app.catalogue import rewriting
from app.catalogue.errors import InputUnreadable, TagRefused, UndoUnreadable
from app.catalogue.rewriting import rewrite, undo_all
from app.catalogue.tags import code_of, open_tag
from tests import audio_samples

id3: Any = importlib.import_module("mutagen.id3")  # it has types in part

MAKERS: dict[str, Callable[[], bytes]] = {
    "song.mp3": audio_samples.mp3,
    "song.flac": audio_samples.flac,
    "song.ogg": audio_samples.vorbis,
    "song.opus": audio_samples.opus,
    "song.m4a": audio_samples.m4a,
    "song.wav": audio_samples.wav,
    "song.aiff": audio_samples.aiff,
    "song.aac": audio_samples.aac,
    "song.webm": audio_samples.webm,
    "song.mka": lambda: audio_samples.container(audio_samples.tone(rate_hz=48_000), "matroska", "flac", 48_000),
}


def decoded(path: Path) -> np.ndarray:
    with av.open(io.BytesIO(path.read_bytes()), "r") as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


def by_ffprobe(path: Path) -> list[str]:
    """The languages that it finds; by FFmpeg's libraries where the program is not installed."""
    if shutil.which("ffprobe") is None:
        with av.open(str(path)) as container:
            found = [container.metadata, container.streams.audio[0].metadata]
    else:
        command = ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", "-select_streams", "a"]
        shown = json.loads(subprocess.run([*command, str(path)], capture_output=True, check=True).stdout)
        found = [part.get("tags", {}) for part in (shown["format"], *shown["streams"])]
    return [value for tags in found for name, value in tags.items() if name.lower() == "language"]


def write(path: Path, code: str, undo: Path) -> None:
    rewrite(path, partial(open_tag(path).write, code), undo)


@pytest.fixture(params=MAKERS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param.endswith((".webm", ".mka")) and shutil.which("mkvpropedit") is None:
        pytest.skip("without MKVToolNix")
    file = tmp_path / request.param
    file.write_bytes(MAKERS[request.param]())
    return file


def test_written_read_by_beets_and_taken_back(path: Path, tmp_path: Path) -> None:
    before, audio = path.read_bytes(), decoded(path)
    times = path.stat().st_mtime_ns
    undo = tmp_path / "undo.jsonl"
    assert open_tag(path).language == ""
    write(path, "kor", undo)
    write(path, "zxx", undo)
    assert open_tag(path).language == "zxx"
    assert "zxx" in by_ffprobe(path)
    if path.suffix not in {".wav", ".aac", ".webm", ".mka"}:  # kinds that mediafile does not know
        assert MediaFile(path).language == "zxx"
    assert np.array_equal(decoded(path), audio)
    assert [(file, error) for file, error in undo_all(undo)] == [(path, None)] * 2
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == times
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, "undo.jsonl"])


@pytest.mark.parametrize("version", [3, 4])
def test_other_tags_and_the_version_stay(tmp_path: Path, version: int) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(audio_samples.mp3())
    tags = id3.ID3()
    tags.add(id3.TIT2(encoding=1, text=["Ünïcode"]))
    tags.add(id3.COMM(encoding=0, lang="eng", desc="", text=["kept"]))
    if version == 3:
        tags.add(id3.TYER(encoding=0, text=["1999"]))
    tags.save(path, v2_version=version)
    write(path, "deu", tmp_path / "undo.jsonl")
    found = id3.ID3(path, translate=False)
    assert found.version == (2, version, 0)
    assert sorted(found) == sorted(["TIT2", "COMM::eng", "TLAN", *(["TYER"] if version == 3 else [])])


def test_a_file_that_changed_since_is_left_alone(tmp_path: Path) -> None:
    path, undo = tmp_path / "song.flac", tmp_path / "undo.jsonl"
    path.write_bytes(audio_samples.flac())
    write(path, "fra", undo)
    changed = path.read_bytes() + b"more"
    path.write_bytes(changed)
    ((_, error),) = undo_all(undo)
    assert error is not None
    assert "changed since" in error.detail
    assert path.read_bytes() == changed


def test_a_crash_in_the_middle_leaves_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, undo = tmp_path / os.fsdecode(b"caf\xe9.mp3"), tmp_path / "undo.jsonl"
    path.write_bytes(audio_samples.mp3())
    before = path.read_bytes()

    def crash(copy: Path, original: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rewriting, "_replace", crash)
        with pytest.raises(KeyboardInterrupt):
            write(path, "fra", undo)
    assert path.read_bytes() == before
    assert [error for _, error in undo_all(undo)] == [None]
    write(path, "fra", undo)
    assert open_tag(path).language == "fra"


def test_what_was_cut_off_in_the_undo_file_costs_only_itself(tmp_path: Path) -> None:
    undo, paths = tmp_path / "undo.jsonl", [tmp_path / "a.flac", tmp_path / "b.ogg"]
    for path in paths:
        path.write_bytes(MAKERS[f"song{path.suffix}"]())
    before = [path.read_bytes() for path in paths]
    write(paths[0], "fra", undo)
    with undo.open("ab") as file:
        file.write(b'{"path": "L3RtcC9hb')  # as a full disk leaves it
    write(paths[1], "fra", undo)
    assert list(undo_all(undo)) == [(path, None) for path in reversed(paths)]
    assert [path.read_bytes() for path in paths] == before
    undo.write_text(json.dumps({"path": base64.b64encode(os.fsencode(paths[0])).decode()}))
    assert [error.code for _, error in undo_all(undo) if error] == ["tag_refused"]
    undo.write_text("no JSON\n5\n")
    with pytest.raises(InputUnreadable, match="no undo file"):
        list(undo_all(undo))


@pytest.mark.parametrize("name", ["profile", "song.wav"])
def test_an_undo_file_changes_no_audio_and_nothing_but_audio(tmp_path: Path, name: str) -> None:
    """Whoever made it could know any file."""
    path, other, undo = tmp_path / name, tmp_path / f"other {name}", tmp_path / "undo.jsonl"
    path.write_bytes(b"echo hello" if name == "profile" else audio_samples.wav())
    other.write_bytes(path.read_bytes().replace(b"\0", b"\1") + b"; echo others")
    before = path.read_bytes()
    record = rewriting._difference(other, path) | {"path": base64.b64encode(os.fsencode(path)).decode()}
    undo.write_text(json.dumps(record))
    assert [error.code for _, error in undo_all(undo) if error] == ["tag_refused"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"path": 5},
        {"path": "a"},
        {"path": "AA=="},
        {"path": "L2Rldi96ZXJv"},
        {"tail": "a"},
        {"bytes": "AAAA"},
        {"bits": None},
    ],
    ids=str,
)
def test_an_undo_file_of_another_form_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path, undo = tmp_path / "song.flac", tmp_path / "undo.jsonl"
    path.write_bytes(audio_samples.flac())
    write(path, "fra", undo)
    undo.write_text('"path"\n' + json.dumps(json.loads(undo.read_text()) | change))
    assert [error.code for _, error in undo_all(undo) if error] == ["tag_refused"]


def test_an_undo_file_is_no_other_file(tmp_path: Path) -> None:
    path, other = tmp_path / "song.flac", tmp_path / "other.flac"
    for one in (path, other):
        one.write_bytes(audio_samples.flac())
    with pytest.raises(UndoUnreadable, match="no undo file"):
        write(path, "fra", other)
    assert path.read_bytes() == other.read_bytes() == audio_samples.flac()


def test_a_link_beside_the_file_is_not_followed(tmp_path: Path) -> None:
    path, other = tmp_path / "song.flac", tmp_path / "other"
    path.write_bytes(audio_samples.flac())
    (tmp_path / f".lrid-{os.getpid()}.flac").symlink_to(other)
    write(path, "fra", tmp_path / "undo.jsonl")
    assert not other.exists()
    assert sorted(one.name for one in tmp_path.glob(".lrid*")) == [f".lrid-{os.getpid()}.flac"]


def test_rights_stay_and_read_only_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    path.write_bytes(audio_samples.mp3())
    path.chmod(0o640)
    write(path, "fra", tmp_path / "undo.jsonl")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o440)
    with pytest.raises(TagRefused, match="read-only"):
        write(path, "deu", tmp_path / "undo.jsonl")


def test_a_change_of_audio_is_refused(tmp_path: Path) -> None:
    path, undo = tmp_path / "song.wav", tmp_path / "undo.jsonl"
    path.write_bytes(audio_samples.wav())
    before = path.read_bytes()

    def shorten(copy: Path) -> None:
        copy.write_bytes(audio_samples.wav(audio_samples.tone(1.0)))

    with pytest.raises(TagRefused, match="would not be the same"):
        rewrite(path, shorten, undo)
    assert path.read_bytes() == before
    assert not undo.exists()


def test_kinds_that_are_not_written_are_refused_by_name(tmp_path: Path) -> None:
    for name, data in {"a.au": b".snd", "a.mp3": b"", "a.webm": audio_samples.mp3(), "b.webm": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(TagRefused):
            write(tmp_path / name, "fra", tmp_path / "undo.jsonl")


def test_matroska_without_its_tools_is_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.webm").write_bytes(audio_samples.webm())
    with pytest.raises(TagRefused, match="install MKVToolNix"):
        open_tag(tmp_path / "a.webm")


@pytest.mark.skipif(shutil.which("mkvpropedit") is None, reason="without MKVToolNix")
def test_codes_of_matroska_are_read_as_they_were_given(tmp_path: Path) -> None:
    path = tmp_path / "song.webm"
    path.write_bytes(audio_samples.webm())
    for code in ("deu", "hbs", "jpn", "mul"):
        write(path, code, tmp_path / "undo.jsonl")
        assert open_tag(path).language == code


def test_codes_are_those_of_iso_639_3() -> None:
    languages = [{"code": "sh", "iso639_3": "hbs"}, {"code": "others", "iso639_3": None}]
    assert [code_of({"language": code, "languages": languages}) for code in ("sh", "others", "und", "zxx", "mul")] == [
        "hbs",
        None,
        None,
        "zxx",
        "mul",
    ]

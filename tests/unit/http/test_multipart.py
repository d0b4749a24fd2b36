"""The form reader: the same form however it arrives, and every bound applied while it does."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.errors import (
    DuplicatePart,
    InvalidOption,
    LridError,
    MalformedMultipart,
    MetadataTooLong,
    QueueFull,
)
from app.http.gate import AudioGate
from app.http.multipart import Form, read_form

KNOWN = frozenset({"title", "artist", "top_k"})
MAX_FIELD = 50  # bytes


class Door(AudioGate):
    """A gate that remembers, and closes after `room` bytes of audio."""

    def __init__(self, room: int = 10_000) -> None:
        self.opened = 0
        self.taken = 0
        self._room = room

    def open(self) -> None:
        self.opened += 1

    def take(self, n_bytes: int) -> None:
        self.taken += n_bytes
        if self.taken > self._room:
            raise QueueFull("no room", retry_after_seconds=1)


def part(name: str, value: bytes, more: bytes = b"") -> bytes:
    return b"--B\r\nContent-Disposition: form-data; name=%b%b\r\n\r\n%b\r\n" % (name.encode(), more, value)


END = b"--B--\r\n"


def read(body: bytes, cuts: list[int] | None = None, door: Door | None = None, content_type: str | None = None) -> Form:
    """`body` in pieces that end at `cuts`."""
    places = sorted({min(cut, len(body)) for cut in cuts or []} | {len(body)})

    async def chunks() -> AsyncIterator[bytes]:
        start = 0
        for stop in places:
            yield body[start:stop]
            start = stop

    content_type = content_type or "multipart/form-data; boundary=B"
    return asyncio.run(read_form(chunks(), content_type, door or Door(), KNOWN, MAX_FIELD))


AUDIO = b"RIFF\r\n--B\0\r\n--\r\n\r\n--A--\r\n" + bytes(range(256))
WHOLE = part("title", b"La vie en rose") + part("audio", AUDIO, b'; filename="a\r\n b.wav"') + END


@settings(max_examples=200)
@given(cuts=st.lists(st.integers(0, 500), max_size=30))
@example(cuts=list(range(500)))  # byte by byte
def test_the_same_form_however_it_is_cut(cuts: list[int]) -> None:
    body = part("title", b"La vie") + part("audio", AUDIO, b"; filename=a.wav") + part("top_k", b"3") + END
    door = Door()
    form = read(body, cuts, door)
    assert form == Form(audio=AUDIO, fields={"title": b"La vie", "top_k": b"3"})
    assert (door.opened, door.taken) == (1, len(AUDIO))


@settings(max_examples=200)
@given(value=st.binary(max_size=300), cut=st.integers(0, 400))
def test_any_bytes_are_audio(value: bytes, cut: int) -> None:
    """But for the boundary itself."""
    form = read(part("audio", value, b"; filename=a") + END, [cut]) if b"\r\n--B" not in b"\r\n" + value else None
    assert form is None or form.audio == value


@settings(max_examples=300)
@given(body=st.binary(max_size=300), cut=st.integers(0, 300))
@example(body=b"--B--", cut=3)
@example(body=b"--B\r\n\r\n\r\n--B--", cut=0)
def test_any_bytes_are_a_form_or_an_error_of_ours(body: bytes, cut: int) -> None:
    for whole in (body, b"--B\r\n" + body, part("audio", b"") + body + END):
        try:
            read(whole, [cut])
        except LridError as error:
            assert error.status < 500  # noqa: PT017 - either is fine


@settings(max_examples=100)
@given(stop=st.integers(0, len(WHOLE) - len(END) - 1))
def test_a_form_that_breaks_off_is_no_form(stop: int) -> None:
    with pytest.raises(MalformedMultipart):
        read(WHOLE[:stop])


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (part("title", b"x" * 51) + END, MetadataTooLong),
        (part("audio", b"") + part("audio", b"") + END, DuplicatePart),
        (part("title", b"a") + part("title", b"b") + END, DuplicatePart),
        (part("titel", b"a") + END, InvalidOption),
        (part("\xff", b"a") + END, InvalidOption),
        (b"--B\r\nContent-Disposition: attachment; name=title\r\n\r\na\r\n" + END, MalformedMultipart),
        (b"--B\r\nContent-Type: text/plain\r\n\r\na\r\n" + END, MalformedMultipart),
        (b"--B\r\n" + b"X: y\r\n" * 100 + b"\r\na\r\n" + END, MalformedMultipart),
    ],
)
def test_refused(body: bytes, error: type[LridError]) -> None:
    with pytest.raises(error):
        read(body, list(range(0, len(body), 7)))


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; b"])
def test_no_boundary(content_type: str) -> None:
    with pytest.raises(MalformedMultipart, match="boundary"):
        read(END, content_type=content_type)


def test_the_gate_is_asked_before_audio_and_while_it_comes() -> None:
    door = Door(room=20)
    with pytest.raises(QueueFull):
        read(part("audio", b"x" * 1000) + END, list(range(0, 1000, 10)), door)
    assert door.taken <= 20 + 10


@pytest.mark.parametrize("value", [b"", b"null", b"undefined"])
def test_a_field_left_empty_is_not_given(value: bytes) -> None:
    """As browsers send a file input without a file, and scripts a variable that is not set."""
    door = Door(room=10)
    body = part("audio", value, b'; filename=""') + part("title", value) + part("artist", b"Piaf") + END
    assert read(body, door=door) == Form(audio=None, fields={"artist": b"Piaf"})
    assert read(part("audio", value, b"; filename=a.wav") + END).audio == value


def test_an_empty_file_input_needs_no_room() -> None:
    assert read(part("audio", b"", b'; filename=""') + END, door=(door := Door())).audio is None
    assert door.opened == 0


@given(cuts=st.lists(st.integers(0, 700), max_size=20))
@example(cuts=list(range(700)))  # byte by byte
@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"For old mailers.\r\n--A\r\n-- B\r\n--Bee\r\n", b"x" * 500 + b"\r\n"])
def test_preamble_padding_and_epilogue(preamble: bytes, cuts: list[int]) -> None:
    body = (part("title", b"a") + part("audio", AUDIO, b"; filename=a")).replace(b"--B\r\n", b"--B \t \r\n")
    form = read(preamble + body + END + b"The rest\r\n--B\r\nis not read", cuts)
    assert form == Form(audio=AUDIO.replace(b"--B\r\n", b"--B \t \r\n"), fields={"title": b"a"})


def test_preambles_and_audio_like_delimiters_take_time_by_their_length() -> None:
    """64 KB of what only begins like a delimiter: a millisecond or two, not a copy of the rest for each."""
    like = b"\r\n--BB" * 10_000

    async def chunks() -> AsyncIterator[bytes]:
        for piece in (*[like] * 50, b"\r\n", part("audio", b"").removesuffix(b"\r\n"), *[like] * 50, b"\r\n" + END):
            yield piece

    started = time.process_time()
    form = asyncio.run(read_form(chunks(), "multipart/form-data; boundary=B", Door(10**8), KNOWN, MAX_FIELD))
    assert form.audio == like * 50
    assert time.process_time() - started < 5


MAIL = b"""--B
Content-Type: text/plain; charset="iso-8859-1"
MIME-Version: 1.0
Content-Transfer-Encoding: %b
Content-Disposition: form-data;
 name="title"

%b
--B
content-disposition: form-data; name="audio";
	filename="a name that is too long for the line of a mail.ogg"
Content-Transfer-Encoding: base64

T2dn
UwA=

--B--"""


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("encoding", "text"), [(b"8bit", b"gar\xe7ons"), (b"Quoted-Printable", b"gar=E7ons"), (b"base64", b"Z2Fy52\n9ucw==")]
)
def test_a_form_that_a_mail_library_wrote(encoding: bytes, text: bytes, line_end: bytes) -> None:
    """Folded headers, transfer encodings, charsets, and line ends of Unix, as Python's `email` writes them."""
    body = (MAIL % (encoding, text)).replace(b"\n", line_end)
    for cuts in ([], list(range(len(body)))):
        assert read(body, cuts) == Form(audio=b"OggS\0", fields={"title": "garçons".encode()})


@pytest.mark.parametrize(
    ("charset", "value", "expected"),
    [
        ("ISO-8859-1", "garçons".encode(), "garçons".encode()),  # a wrong name, which UTF-8 shows
        ("utf-8", b"gar\xe7ons", b"gar\xe7ons"),  # for the field to refuse
        ("idna", b"gar\xe7ons", b"gar\xe7ons"),
        ("Shift_JIS", "さくら".encode("shift_jis"), "さくら".encode()),
        ("GBK", "月亮".encode("gbk"), "月亮".encode()),
    ],
)
def test_charset(charset: str, value: bytes, expected: bytes) -> None:
    more = b"\r\nContent-Type: text/plain; charset=" + charset.encode()
    assert read(part("title", value, more) + END).fields == {"title": expected}


def test_a_form_names_the_charset_of_its_text() -> None:
    """By a hidden field, as HTML has it."""
    body = part("_charset_", b"windows-1251") + part("title", "Катюша".encode("cp1251")) + END
    assert read(body).fields == {"title": "Катюша".encode()}


def test_what_cannot_be_decoded_is_named() -> None:
    for encoding in (b"x-uuencode", b"base64"):
        with pytest.raises(MalformedMultipart, match=encoding.decode()):
            read(part("title", b"abcde", b"\r\nContent-Transfer-Encoding: " + encoding) + END)


def test_text_needs_no_gate() -> None:
    door = Door()
    read(part("title", b"La vie") + END, door=door)
    assert (door.opened, door.taken) == (0, 0)

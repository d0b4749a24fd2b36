"""Lines out of chunks."""

from hypothesis import example, given
from hypothesis import strategies as st

from app.http.batch import split_lines


@given(data=st.binary(max_size=80).map(lambda data: data.replace(b"\0", b"\n")), cuts=st.lists(st.integers(0, 80)))
@example(data=b"short\nmuch too long\nshort\n\nalso much too long", cuts=list(range(50)))
@example(data=b"much too long\nshort", cuts=[12, 13, 14])
def test_the_same_lines_however_they_come(data: bytes, cuts: list[int]) -> None:
    found, held, start = list[bytes | None](), b"", 0
    for stop in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        lines, held = split_lines(held, data[start:stop], max_bytes=10)
        found, start = found + lines, stop
        assert len(held) <= 10 + 1  # one more tells that the line is too long
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    last, _ = split_lines(held, b"\n" if held else b"", max_bytes=10)
    assert found + last == [line if len(line) <= 10 else None for line in expected]

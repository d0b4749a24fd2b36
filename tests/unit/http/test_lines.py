"""Lines out of chunks."""

from hypothesis import example, given
from hypothesis import strategies as st

from app.http.batch import Lines


@given(data=st.binary(max_size=80).map(lambda data: data.replace(b"\0", b"\n")), cuts=st.lists(st.integers(0, 80)))
@example(data=b"short\nmuch too long\nshort\n\nalso much too long", cuts=list(range(50)))
@example(data=b"much too long\nshort", cuts=[12, 13, 14])
def test_the_same_lines_however_they_come(data: bytes, cuts: list[int]) -> None:
    lines, found, start = Lines(max_bytes=10), [], 0
    for stop in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        found += lines.feed(data[start:stop])
        start = stop
        assert len(lines._held) <= 10
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert found + lines.rest() == [line if len(line) <= 10 else None for line in expected]

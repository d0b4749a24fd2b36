"""The curves' own arithmetic, and their tables and picture. The service itself is measured by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from loadtest.curves.measure import AtOnce, Length, Memory, mixed, slope_kb_per_1000
from loadtest.curves.report import Curves, draw, table


def test_the_slope_leaves_out_the_beginning() -> None:
    requests = list(range(0, 5001, 500))
    pss_mb = [100.0, 400.0, *(500 + 0.002 * n for n in requests[2:])]  # 2 kB a request once the caches are full
    assert slope_kb_per_1000(requests, pss_mb) == pytest.approx(2000)
    assert math.isnan(slope_kb_per_1000([0], [100.0]))


def test_the_mix_is_the_same_in_every_hundred() -> None:
    requests = [mixed(number, [b"a clip"]) for number in range(400)]
    kinds = [request.kind for request, _ in requests]
    assert {kind: kinds.count(kind) for kind in kinds} == {"clip": 8, "not audio": 4, "nothing": 4, "names": 384}
    assert {kind: status for kind, (_, status) in zip(kinds, requests, strict=True)} == {
        "clip": 200, "not audio": 415, "nothing": 422, "names": 200,
    }  # fmt: skip


def test_tables_and_picture(tmp_path: Path) -> None:
    nan = float("nan")
    curves = Curves(
        lengths=[Length(10.0, 0.17, 1, 61.2, 98.0), Length(1200.0, 20.3, 8, 912.0, 1510.0)],
        clients=[AtOnce(1, 7.5, 120.0, 140.0, 0, nan, 0, 130.0), AtOnce(256, 9.8, 6000.0, 7000.0, 31, 4.4, 2, 128.0)],
        memory=Memory([0, 500], [900.0, 910.5], 12.4, 0),
    )
    text = table(curves)
    assert "| 1200 s | 20.3 | 8 | 912 | 1,510 |" in text
    assert "| 1 | 7.50 | 120 | 140 | 130 | 0 | - | 0 |" in text
    assert "900 MB before, 910 MB after, slope +12 kB for 1,000 requests; 0 wrong answers" in text
    draw(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

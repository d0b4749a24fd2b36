"""Short runs of `loadtest.fuzz`, by our mutations and by the OpenAPI document, another seed every day; long ones by hand."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path

import psutil
import pytest

from loadtest.fuzz import ADMIN_KEY, Case, fuzz, judge, schemathesis
from loadtest.mutations import Cases
from tests.service.live import LiveServer

CASES = 150


@pytest.fixture(scope="module")
def cases() -> Cases:
    return Cases(datetime.date.today().toordinal())


def test_nearly_right_requests(server: LiveServer, cases: Cases) -> None:
    tally = asyncio.run(fuzz(server.port, psutil.Process(server.process.pid), cases, range(CASES), None))
    assert tally.failures == []
    assert tally.done == CASES
    assert not [line for line in server.log_lines() if line["level"] in ("error", "critical")]


def test_what_the_openapi_document_allows_and_forbids(
    tiny_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every operation, by schemathesis: no 5xx, and no status, type or body that the document does not list."""
    with LiveServer(tmp_path, model_store=tiny_store, admin_keys=ADMIN_KEY) as live:
        operations = sum(len(each) for each in live.wait_until_ready().client.get("/openapi.json").json()["paths"].values())
        assert schemathesis(live.port, cases=5, seed=datetime.date.today().toordinal()) == 0
        assert f"Tested: {operations}\n" in capfd.readouterr().out
        assert not [line for line in live.log_lines() if line["level"] in ("error", "critical")]


def test_a_case_is_a_function_of_its_number(cases: Cases) -> None:
    again = Cases(datetime.date.today().toordinal())
    assert [cases[number].kind for number in range(50)] == [again[number].kind for number in range(50)]
    assert len({cases[number].data for number in range(20)}) == 20


@pytest.mark.parametrize(
    ("outcome", "whole", "wrong"),
    [
        ("200", True, False),
        ("422 audio_corrupt", True, False),
        ("504 deadline_exceeded", True, False),
        ("500 internal_error", True, True),
        ("hung", False, True),
        ("closed", False, False),
        ("closed", True, True),
        ("unreachable (refused)", False, True),
    ],
)
def test_the_judge(outcome: str, whole: bool, wrong: bool) -> None:
    assert bool(judge(Case("any", b"", whole), outcome)) == wrong

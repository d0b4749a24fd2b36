"""The threads of a pass sleep while they wait for each other: the variable must be there before torch is."""

import os

import pytest

from app.serving.scheduling import let_threads_sleep


def test_an_operator_s_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "GOMP_SPINCOUNT" not in os.environ  # it would count for more
    monkeypatch.delenv("OMP_WAIT_POLICY")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert int(os.environ["GOMP_SPINCOUNT"]) > 0

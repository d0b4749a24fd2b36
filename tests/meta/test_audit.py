"""What CI makes of pip-audit's findings."""

import importlib.util
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

CI = Path(__file__).resolve().parent.parent.parent / ".ci"
FINE = {"name": "numpy", "version": "2.0", "vulns": []}
HOLED = {"name": "av", "version": "15.0", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["15.1"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", CI / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_finding_fails(audit: ModuleType) -> None:
    failures, said = audit.judge([FINE, HOLED], {})
    assert failures == ["VULNERABLE: av 15.0, PYSEC-1; fixed in 15.1"]
    assert said == ["audited: 2 packages"]


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_an_argued_finding_passes_and_is_said(audit: ModuleType, name: str) -> None:
    assert audit.judge([FINE, HOLED], {name: "because"}) == ([], ["audited: 2 packages", f"excepted: av 15.0, {name}"])


def test_an_exception_that_nothing_needs_fails(audit: ModuleType) -> None:
    assert audit.judge([FINE], {"CVE-1": "because"})[0] == ["STALE EXCEPTION: CVE-1 was not found"]


def test_what_was_not_audited_is_said(audit: ModuleType) -> None:
    assert audit.judge([FINE, UNKNOWN], {}) == ([], ["audited: 1 packages", "not audited: torch"])
    failures, (said,) = audit.judge([UNKNOWN], {"CVE-1": "because"})
    assert failures == []
    assert said.startswith("NOT AUDITED")


@pytest.mark.parametrize(("stdout", "code"), [("", 0), ("no JSON", 0), ('{"dependencies": []}', 0)])
def test_no_result_is_no_failure(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stdout: str, code: int
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: subprocess.CompletedProcess(args, 1, stdout, ""))
    assert audit.main("site-packages") == code
    assert "NOT AUDITED" in capsys.readouterr().out


def test_every_exception_is_argued() -> None:
    exceptions = tomllib.loads((CI / "audit-exceptions.toml").read_text())["exceptions"]
    assert all(isinstance(reason, str) and len(reason) > 20 for reason in exceptions.values())


def test_ci_runs_it() -> None:
    assert "\n.ci/supply build/sbom.json " in (CI / "run").read_text()
    assert '\n"$tools/bin/python" .ci/audit.py ' in (CI / "supply").read_text()

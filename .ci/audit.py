"""Known vulnerabilities of everything that is installed, by pip-audit: `python .ci/audit.py FOLDER_OF_PACKAGES`.

Exit code 1 for one that `.ci/audit-exceptions.toml` does not argue, or for an exception that nothing needs any more. Where
the advisories cannot be reached nothing was audited: that is said aloud, and is no failure of the project.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXCEPTIONS = Path(__file__).parent / "audit-exceptions.toml"
OPTIONS = ("--format", "json", "--progress-spinner", "off", "--skip-editable", "--timeout", "10")
PATIENCE_SECONDS = 240


def main(packages: str) -> int:
    try:
        command = [sys.executable, "-m", "pip_audit", *OPTIONS, "--path", packages]
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
        dependencies = json.loads(found.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        print(f"NOT AUDITED: pip-audit gave no result here ({type(error).__name__}); run it where advisories can be reached")
        return 0
    failures, said = judge(dependencies, tomllib.loads(EXCEPTIONS.read_text())["exceptions"])
    print("\n".join([*said, *failures]))
    return 1 if failures else 0


def judge(dependencies: list[dict[str, Any]], exceptions: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """(failures, remarks). `dependencies` as pip-audit lists them; `exceptions`: advisory → why it does not concern us."""
    audited = [each for each in dependencies if "skip_reason" not in each]
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    if not audited:
        return [], [f"NOT AUDITED: none of {len(skipped)} packages is known to the advisory service that was asked"]
    said = [f"audited: {len(audited)} packages"]
    if skipped:
        said.append(f"not audited: {', '.join(skipped)}")
    failures, used = [], set()
    for each in audited:
        for advisory in each["vulns"]:
            names = {advisory["id"], *advisory.get("aliases", ())}
            if argued := names & exceptions.keys():
                used |= argued
                said.append(f"excepted: {each['name']} {each['version']}, {', '.join(sorted(argued))}")
            else:
                fixed = ", ".join(advisory["fix_versions"]) or "no release yet"
                failures.append(f"VULNERABLE: {each['name']} {each['version']}, {advisory['id']}; fixed in {fixed}")
    failures += [f"STALE EXCEPTION: {name} was not found" for name in sorted(exceptions.keys() - used)]
    return failures, said


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))

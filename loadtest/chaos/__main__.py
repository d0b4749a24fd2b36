"""Break the service in every way that the README promises it survives, and measure.

    python -m loadtest.chaos                              # everything, about 15 min
    python -m loadtest.chaos --only overload --seconds 60
    python -m loadtest.chaos --list
    python -m loadtest.chaos --json result.json

Servers are processes of their own on loopback, with a tiny release of random weights and, where a row says so, a device
that takes a fixed time a window without using the processor: then what is measured is the serving, whatever the machine.
Prints a Markdown table; exit code 1 if a row does not hold. See also `loadtest.fuzz` and `loadtest.soak`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from app.server.connections import raise_file_limit
from loadtest.chaos import ending, faults, hostile, overload, shipped
from loadtest.chaos.rows import Bench, Row
from tests.releases import write_release

SCENARIOS: dict[str, Callable[[Bench], list[Row]]] = {
    "poison": faults.poison,
    "parts": faults.parts,
    "overload": overload.overload,
    "retry_after": overload.retry_after,
    "metadata": overload.metadata,
    "shipped": shipped.shipped,
    "deadlines": overload.deadlines,
    "leavers": hostile.leavers,
    "connections": hostile.connections,
    "odd": hostile.odd,
    "bombs": hostile.bombs,
    "sigterm": ending.sigterm,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="may be given several times")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each overload")
    parser.add_argument("--json", type=Path, help="where to save everything that was measured")
    parser.add_argument("--list", action="store_true", help="names of the scenarios")
    options = parser.parse_args()
    if options.list:
        print("\n".join(SCENARIOS))
        return
    raise_file_limit()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lrid-chaos-") as folder:
        store = Path(folder) / "store"
        for number in (1, 2):
            write_release(store, release=str(number), seed=number)
        for name in options.only or SCENARIOS:
            print(f"{name} ...", file=sys.stderr, flush=True)
            found = SCENARIOS[name](Bench(store, Path(folder) / name, options.seconds))
            print("\n".join(row.markdown for row in found), file=sys.stderr, flush=True)
            rows += found
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    print("| promise | measured | bar | holds |\n|---|---|---|---|")
    print("\n".join(row.markdown for row in rows))
    print(f"\n{machine()}")
    raise SystemExit(0 if all(row.holds for row in rows) else 1)


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load average at the end {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()

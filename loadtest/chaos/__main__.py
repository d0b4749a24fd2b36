"""Overload, faults and hostile clients: what the service survives, measured.

    python -m loadtest.chaos                              # everything, about 10 min
    python -m loadtest.chaos --only overload --seconds 60
    python -m loadtest.chaos --list

Each scenario starts a server of its own on loopback with the release and settings of the environment. Prints a Markdown
table; exit code 1 if a row does not hold. Faults inside the device (errors, NaN, out of memory, a hung thread) are tests:
tests/service/test_hard_faults.py. See also `loadtest.fuzz` and `loadtest.soak`.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from app.lab.markdown import table
from app.server.connections import raise_file_limit
from loadtest.chaos import faults, hostile, overload
from loadtest.chaos.rows import Load, Row
from loadtest.client import audio_post
from loadtest.servers import machine, save, say
from loadtest.sounds import encoded

HEAD = ("what happens", "measured", "required", "holds")
SCENARIOS: dict[str, Callable[[Load], list[Row]]] = {
    "overload": overload.overload,
    "retry_after": overload.retry_after,
    "deadlines": overload.deadlines,
    "decoders": faults.decoders,
    "swap": faults.swap,
    "sigterm": faults.sigterm,
    "disconnects": hostile.disconnects,
    "connections": hostile.connections,
    "odd": hostile.odd,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="may be given several times")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default: %(default)s)")
    parser.add_argument("--clients", type=int, default=10_000, help="idle connections (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where to save the rows")
    parser.add_argument("--list", action="store_true", help="names of the scenarios")
    options = parser.parse_args()
    if options.list:
        print("\n".join(SCENARIOS))
        return
    raise_file_limit()
    load = Load(audio_post(encoded(30.0, 1, "MP3")), options.seconds, options.clients)
    rows: list[Row] = []
    for name in options.only or SCENARIOS:
        say(f"{name} ...")
        found = SCENARIOS[name](load)
        say(table(HEAD, [row.cells for row in found]))
        rows += found
    save(options.json, {"machine": machine(), "rows": [asdict(row) for row in rows]})
    print(f"{table(HEAD, [row.cells for row in rows])}\n\n{machine()}")
    raise SystemExit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()

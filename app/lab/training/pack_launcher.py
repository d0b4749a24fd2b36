#!/usr/bin/env python3
"""`lrid` out of an unpacked archive: looks whether this Python can run it, and starts it with what lies beside this file.

`lrid pack` copies this file; it imports nothing of the project. `/other/python3 lrid-pack/lrid ...` takes another Python.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from pathlib import Path

EXPECTED = ("numpy", "torch", "torchaudio")  # not in an archive: they are large, and fit the machine they are on


def this_machine() -> str:
    """What compiled packages are made for, such as "cpython-311 Linux x86_64"."""
    return f"{sys.implementation.cache_tag} {platform.system()} {platform.machine()}"


def before(variable: str, *folders: Path) -> None:
    """Puts folders in front of those of a variable of the environment."""
    os.environ[variable] = os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get(variable)])])


def main() -> None:
    """Becomes `python -m app.cli`, or ends with what is missing."""
    here = Path(__file__).resolve().parent
    wanted = (here / "made-for").read_text(encoding="utf-8").strip()
    if this_machine() != wanted:
        sys.exit(f"this archive is for {wanted}, this is {this_machine()}: start it with another python3")
    if missing := [name for name in EXPECTED if find_spec(name) is None]:
        sys.exit(f"{sys.executable} has no {', '.join(missing)}: install, or start this with another python3")
    before("PYTHONPATH", here / "code", here / "site", *([] if find_spec("av") else [here / "without_pyav"]))
    os.environ.setdefault("LRID_DATA", str(here / "data"))
    if sys.argv[1:2] == ["synthesize"] and (here / "espeak").is_dir():
        before("PATH", here / "espeak")
        before("LD_LIBRARY_PATH", here / "espeak/lib")
        os.environ["ESPEAK_DATA_PATH"] = str(here / "espeak")
    os.execv(sys.executable, [sys.executable, "-m", "app.cli", *sys.argv[1:]])


if __name__ == "__main__":
    main()

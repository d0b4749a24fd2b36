"""`lrid` with standard error in a file: `python -m loadtest.logged FILE serve ...`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    with open(sys.argv.pop(1), "ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    from app.cli.main import main as lrid

    lrid()


if __name__ == "__main__":
    main()

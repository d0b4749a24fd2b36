"""`python -m app.cli` is `lrid`."""

from app.cli.main import main

main()

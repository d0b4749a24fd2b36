"""`python -m app.cli` is `lrid`."""

from app.cli.main import main

if __name__ == "__main__":  # processes that are started import this module too
    main()

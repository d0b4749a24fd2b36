"""Cost as work grows: `python -m loadtest.curves --help`."""

"""This service beside what people would write instead: `python -m loadtest.compare --help`."""

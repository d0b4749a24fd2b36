"""Overload, faults and hostile clients against a real server: `python -m loadtest.chaos`."""

"""What is promised for the worst day, measured against real servers on real ports: `python -m loadtest.chaos`."""

"""Head to head with the servers that people would pick instead: `python -m loadtest.compare --help`."""

"""More than one machine, by Ray: a catalogue (`score.py`, Ray Data) and the service (`serve.py`, Ray Serve)."""

"""LRID Serve: listen to the audio, read the metadata, identify the language a song is sung in."""

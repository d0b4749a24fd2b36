"""Lee & Coviello, A Multimodal Strategy for Singing Language Identification: vocals, timbre and consumption → languages.

How the paper's features meet the contract of a family:

- The listener gets windows of a song. In each it looks for segments of uninterrupted voice (`voiced`): the vocals, by a
  separator where the release names one, without the silence. Each segment goes through the ears (the paper: an x-vector), so
  a window gives up to `most_segments` of them with their seconds, and the codebook histogram of its sound (`timbral.py`):
  maximum, mean, and the frames they are of.
- `combine` pools the histograms over the windows, which is the same as pooling over the song's frames, joins them and the
  consumption vector to each segment, and adds up the segments' answers by their seconds (`network.py`).
- A song without consumption data gets the training songs' average (the paper's fallback A). So does what else is missing.
"""

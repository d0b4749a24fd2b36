"""Made consumption data: sessions in which songs of one language co-occur, and embeddings learnt from them (§3.1.1).

The sessions are made; the way from sessions to vectors is the paper's: pairs that are listened to in the same session, the
pairs of few sessions left out, a test of how much more often than by chance, the `TOP` most similar songs of each, and
embeddings whose softmax of dot products predicts those.
"""

from collections.abc import Sequence

import numpy as np
import torch

from app.domain import FloatArray

SESSIONS_PER_SONG, SONGS_PER_SESSION = 8, 12
OFF_THEME = 0.25  # share of a session's songs that are of any language
STRAYS = 0.06  # share of songs that are listened to by those of another language
LEAST_SESSIONS, TOP = 2, 10
STEPS, RATE = 150, 0.05


def session_embeddings(languages: Sequence[str], seed: int, size: int = 32) -> FloatArray:
    """(n, size) of n songs, by the languages they are sung in."""
    rng = np.random.default_rng(seed)
    attended = _sessions(np.unique(list(languages), return_inverse=True)[1], rng)  # (n_sessions, n)
    similar = _similarities(attended)
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(languages), size, generator=generator).mul(0.1).requires_grad_()
    strength = torch.from_numpy(similar).float()
    optimiser = torch.optim.Adam([vectors], lr=RATE)
    for _ in range(STEPS):  # few songs: the softmax is over all of them, not over negative samples
        scores = vectors @ vectors.T - 1e4 * torch.eye(len(languages))
        loss = -(strength * scores.log_softmax(dim=1)).sum() / strength.sum().clamp_min(1) + 1e-4 * vectors.square().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return vectors.detach().numpy()


def _sessions(language: np.ndarray, rng: np.random.Generator) -> FloatArray:
    """(n_sessions, n): 1 where a song is listened to."""
    n = len(language)
    theme = np.where(rng.random(n) < STRAYS, rng.permutation(language), language)
    attended = np.zeros((n * SESSIONS_PER_SONG // SONGS_PER_SESSION * 2, n), np.float32)
    for session in attended:
        own = np.flatnonzero(theme == rng.choice(theme))
        off = rng.random(SONGS_PER_SESSION) < OFF_THEME
        session[np.where(off, rng.integers(n, size=SONGS_PER_SESSION), rng.choice(own, SONGS_PER_SESSION))] = 1
    return attended


def _similarities(attended: FloatArray) -> FloatArray:
    """(n, n): how many standard deviations more often than by chance, for the `TOP` most similar songs of each; else 0."""
    pairs, marginal = attended.T @ attended, attended.sum(axis=0)
    expected = np.outer(marginal, marginal) / len(attended)
    scores = np.where(pairs >= LEAST_SESSIONS, (pairs - expected) / np.sqrt(np.maximum(expected, 1e-6)), 0)
    np.fill_diagonal(scores, 0)
    least = np.sort(scores, axis=1)[:, -min(TOP, len(scores)), None]
    return np.where(scores >= least, np.maximum(scores, 0), 0).astype(np.float32)

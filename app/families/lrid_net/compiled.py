"""The seven trials of langdetect as a compiled loop.

Draw by draw, as langdetect itself: unlike blocks in numpy, nothing is multiplied that is then thrown away. The answers of
both are langdetect's to 1e-9; a comparison that rounding could turn is told, not decided.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from langdetect.detector import Detector

from app.families.compiled import compiled

Float64Array = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]

N_TRIALS, BLOCK_DRAWS, LIMIT = 7, 5, Detector.ITERATION_LIMIT  # as in app.families.lrid_net.read
ALPHA, WIDTH, BASE = Detector.ALPHA_DEFAULT, Detector.ALPHA_WIDTH, Detector.BASE_FREQ
CONVERGED = Detector.CONV_THRESHOLD


@compiled
def sum_of_trials(
    scaled: Float64Array, scale: Float64Array, rows: IndexArray, words: IndexArray, upper: IndexArray, margin: float
) -> tuple[Float64Array, bool]:
    """`scaled` (n_ngrams, n_languages + 1), `scale` (n_ngrams,), `rows` of the text's n-grams: see Profiles.

    `words`: 32-bit words of the generator; `upper`: their upper bits, as many as `len(rows)` has. `margin`: how close a
    comparison is in doubt; then nothing else of what is returned counts.
    """
    n_languages = scaled.shape[1] - 1
    total, products = np.zeros(n_languages), np.empty(n_languages)
    drawn, smoothing = np.zeros(BLOCK_DRAWS, np.int64), np.zeros(BLOCK_DRAWS)
    place, sine, cosine, radius = 0, 0.0, 0.0, 0.0
    for trial in range(N_TRIALS):
        if trial % 2 == 0:  # four words make two normal deviates
            angle = ((words[place] >> 5) * 67108864.0 + (words[place + 1] >> 6)) / 9007199254740992.0 * (2.0 * math.pi)
            uniform = ((words[place + 2] >> 5) * 67108864.0 + (words[place + 3] >> 6)) / 9007199254740992.0
            sine, cosine, radius = math.sin(angle), math.cos(angle), math.sqrt(-2.0 * math.log(1.0 - uniform))
            place += 4
        weight = (ALPHA + (cosine if trial % 2 == 0 else sine) * radius * WIDTH) / BASE
        products[:] = 1.0 / n_languages
        n_draws = 0
        while True:
            size = 1 if n_draws == 0 else BLOCK_DRAWS  # langdetect looks after draw 1, 6, 11, ...
            for i in range(size):
                while upper[place] >= len(rows):  # a word that chooses nothing
                    place += 1
                drawn[i] = rows[upper[place]]
                smoothing[i] = weight * scale[drawn[i]]
                place += 1
            multiply(products, scaled, drawn[:size], smoothing)
            n_draws += size
            best = normalise(products)
            if abs(best - CONVERGED) < margin:
                return total, True
            if best > CONVERGED or n_draws > LIMIT:
                break
        total += products
    return total, False


@compiled
def multiply(products: Float64Array, scaled: Float64Array, drawn: IndexArray, smoothing: Float64Array) -> None:
    """Each language's product, (n_languages,), by its smoothed probabilities of the n-grams drawn."""
    n = len(products)
    if len(drawn) != BLOCK_DRAWS:
        for row in range(len(drawn)):
            products *= scaled[drawn[row], :n] + smoothing[row]
        return
    a, b, c, d, e = scaled[drawn[0]], scaled[drawn[1]], scaled[drawn[2]], scaled[drawn[3]], scaled[drawn[4]]
    sa, sb, sc, sd, se = smoothing[0], smoothing[1], smoothing[2], smoothing[3], smoothing[4]
    for i in range(n):  # in one go: what costs is to fetch and store
        products[i] *= (a[i] + sa) * (b[i] + sb) * (c[i] + sc) * ((d[i] + sd) * (e[i] + se))


@compiled
def normalise(products: Float64Array) -> float:
    """To a sum of 1; returns the largest."""
    total, best = 0.0, 0.0
    for product in products:
        total += product
        best = max(best, product)
    for i in range(len(products)):
        products[i] /= total
    return best / total

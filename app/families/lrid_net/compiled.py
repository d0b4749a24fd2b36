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
    n, n_languages = rows.shape[0], scaled.shape[1] - 1
    total, products = np.zeros(n_languages), np.empty(n_languages)
    place, sine, cosine, radius = 0, 0.0, 0.0, 0.0
    for trial in range(N_TRIALS):
        if trial % 2 == 0:  # four words make two normal deviates
            angle = ((words[place] >> 5) * 67108864.0 + (words[place + 1] >> 6)) / 9007199254740992.0 * (2.0 * math.pi)
            uniform = ((words[place + 2] >> 5) * 67108864.0 + (words[place + 3] >> 6)) / 9007199254740992.0
            sine, cosine, radius = math.sin(angle), math.cos(angle), math.sqrt(-2.0 * math.log(1.0 - uniform))
            place += 4
        weight = (ALPHA + (cosine if trial % 2 == 0 else sine) * radius * WIDTH) / BASE
        products[:] = 1.0 / n_languages
        draw = 0
        while True:
            while upper[place] >= n:  # a word that chooses nothing
                place += 1
            row = rows[upper[place]]
            place += 1
            smoothing = weight * scale[row]
            for language in range(n_languages):
                products[language] *= scaled[row, language] + smoothing
            if draw % BLOCK_DRAWS == 0:
                best, divisor = 0.0, products.sum()
                for language in range(n_languages):
                    products[language] /= divisor
                    best = max(best, products[language])
                if abs(best - CONVERGED) < margin:
                    return total, True
                if best > CONVERGED or draw >= LIMIT:
                    break
            draw += 1
        total += products
    return total, False

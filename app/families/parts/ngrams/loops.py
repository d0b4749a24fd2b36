"""The loops of reading. They stand in one file, as compiled ones must: see `families.compiled`.

Loops, not numpy's expressions and slices: with all the errors that those could report, numba compiles twice as long.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from app.domain import FloatArray
from app.families.compiled import compiled, converts_halves

IndexArray = npt.NDArray[np.int64]
SlotRows = npt.NDArray[np.int32]
Halves = npt.NDArray[np.uint16]  # the bits of floats of 16 bits: fetching the weights takes longer than multiplying them
Weights = tuple[Halves | FloatArray, ...]  # by layer: (networks, n_in, n_out); see `as_read`
Biases = tuple[FloatArray, ...]  # by layer: (networks, n_out)
Owners = npt.NDArray[np.uint8]  # the script of each code point
Spelled = tuple[IndexArray, IndexArray, IndexArray, IndexArray]  # see FieldReader.spelled
Table = tuple[npt.NDArray[np.int8] | FloatArray, FloatArray]  # rows in units of their steps, and these
Tables = tuple[IndexArray, SlotRows, FloatArray, Owners, int, int]  # see FieldReader

FNV_START, FNV_PRIME = 2166136261, 16777619
SPREAD = 2654435761  # odd, near 2**32 over the golden ratio: the upper bits of a product depend on all
BITS_32 = 0xFFFFFFFF
WORD_SALT, PAIR_SALT = 0x51ED270B, 0x7FEB352D
CODE_BITS = 21  # of a code point; three make a key
SLOT_BITS = 18  # 87,486 n-grams are known to the profiles of langdetect 1.0.9
NOT_KNOWN = -1
ROWS_AT_ONCE = 32  # of a layer's weights, 24 kB


@compiled
def copy(values: FloatArray, target: FloatArray) -> None:
    """As many as `target` has room for."""
    for i in range(len(target)):
        target[i] = values[i]


@compiled
def add(values: FloatArray, total: FloatArray) -> None:
    for i in range(len(total)):
        total[i] += values[i]


@compiled
def maximum(values: FloatArray) -> float:
    found = values[0]
    for value in values:
        found = max(found, value)
    return found  # type: ignore[no-any-return]


@compiled
def find_buckets(codes: IndexArray, words: IndexArray, max_ngram: int, shift: int) -> IndexArray:
    """Rows of the table, with repetition.

    `codes` (n,): a bounded text. First its n-grams by their start, then its words, each with the pair that it ends.
    `shift`: 32 less the number of bits of a row's number.
    """
    found = np.empty(max_ngram * len(codes) + 2 * len(words), np.int64)
    count = 0
    for start in range(len(codes)):
        state = FNV_START
        for length in range(1, min(max_ngram, len(codes) - start) + 1):
            state = ((state ^ int(codes[start + length - 1])) * FNV_PRIME) & BITS_32
            found[count] = (((state ^ length) * SPREAD) & BITS_32) >> shift
            count += 1
    for i in range(len(words)):
        word = int(words[i])
        found[count] = (((word ^ WORD_SALT) * SPREAD) & BITS_32) >> shift
        count += 1
        if i > 0:
            pair = ((int(words[i - 1]) * FNV_PRIME) & BITS_32) ^ word ^ PAIR_SALT
            found[count] = ((pair * SPREAD) & BITS_32) >> shift
            count += 1
    return found[:count]


@compiled
def _slot(key: int) -> int:
    """Where to look first."""
    return ((((key >> 31) ^ key) & BITS_32) * SPREAD & BITS_32) >> (32 - SLOT_BITS)


@compiled
def fill_slots(keys: IndexArray, rows: SlotRows, new: IndexArray) -> None:
    """Key i of `new` gets row i; a slot that is taken passes it on to the next."""
    for row in range(len(new)):
        slot = _slot(int(new[row]))
        while keys[slot] != NOT_KNOWN:
            slot = (slot + 1) % len(keys)
        keys[slot], rows[slot] = new[row], row


@compiled
def explain(codes: IndexArray, keys: IndexArray, rows: SlotRows, logarithms: FloatArray, total: FloatArray) -> int:
    """Adds the logarithms of the probabilities of all known n-grams to `total`, (n_languages,); returns how many.

    `codes` (n,): of a text as `FieldReader` spells it for the profiles. Its first two are the spaces before.
    """
    n_known = 0
    for end in range(2, len(codes)):
        key, shift = 0, 0
        for place in range(end, end - 3, -1):  # one, two, three characters
            key |= (int(codes[place]) + 1) << shift
            shift += CODE_BITS
            slot = _slot(key)
            while keys[slot] != NOT_KNOWN and keys[slot] != key:
                slot = (slot + 1) % len(keys)
            if keys[slot] == key:
                add(logarithms[rows[slot]], total)
                n_known += 1
    return n_known


@compiled
def weigh(evidence: FloatArray, n_known: float, mean: FloatArray, posterior: FloatArray) -> None:
    """Two views of the sums over the n-grams, (n_languages,) each; zeros where nothing is known.

    `mean` over the n-grams, less the mean over the languages: how a text is written. And the `posterior`, with the
    evidence of k n-grams counted as that of sqrt(k), since neighbours share their characters: how sure that makes.
    """
    if n_known == 0:
        mean[:] = 0.0
        posterior[:] = 0.0
        return
    n_languages = len(evidence)
    centre = 0.0
    for i in range(n_languages):
        centre += float(evidence[i])
    centre /= n_languages
    largest = float(maximum(evidence))
    root, total = np.sqrt(n_known), 0.0
    for i in range(n_languages):
        mean[i] = (float(evidence[i]) - centre) / n_known
        posterior[i] = np.exp((float(evidence[i]) - largest) / root)
        total += float(posterior[i])
    for i in range(n_languages):
        posterior[i] /= total


@compiled
def share_scripts(codes: IndexArray, owner: Owners, shares: FloatArray) -> None:
    """Shares of a text's characters by script into `shares`, (n_scripts,) zeros; they need not add up to 1."""
    for code in codes:
        if code < len(owner) and owner[code] < len(shares):
            shares[owner[code]] += 1.0
    for i in range(len(shares)):
        shares[i] /= max(1, len(codes))


@compiled
def take_apart(
    spelled: Spelled, i: int, tables: Tables, evidence: FloatArray, scripts: FloatArray
) -> tuple[IndexArray, int]:
    """Rows of the table for text i; adds to `evidence` and `scripts`, zeros of (n_languages,) and (n_scripts,)."""
    codes, starts, words, word_starts = spelled
    keys, rows, logarithms, owner, max_ngram, shift = tables
    own, own_words = codes[starts[i] : starts[i + 1]], words[word_starts[i] : word_starts[i + 1]]
    seen = i + len(word_starts) - 1
    buckets = find_buckets(own, own_words, max_ngram, shift)
    n_known = explain(codes[starts[seen] : starts[seen + 1]], keys, rows, logarithms, evidence)
    share_scripts(own[1:-1], owner, scripts)
    return buckets, n_known


@compiled
def weigh_fields(evidence: FloatArray, n_known: FloatArray, views: FloatArray) -> None:
    """Both views (see `weigh`) of each field and of the sum of all fields into `views`, (2 * 4 * n_languages,)."""
    n_fields, n = evidence.shape
    total = np.zeros(n, np.float32)
    for field in range(n_fields):
        weigh(evidence[field], n_known[field], views[2 * field * n :][:n], views[(2 * field + 1) * n :][:n])
        add(evidence[field], total)
    weigh(total, n_known.sum(), views[2 * n_fields * n :][:n], views[(2 * n_fields + 1) * n :][:n])


@compiled
def read_fields(
    spelled: Spelled, first: int, places: IndexArray, tables: Tables, table: Table, evidence: FloatArray, x_lang: FloatArray
) -> None:
    """Fills x_lang, (n_features,) zeros. Text `first` + i is field `places[i]`: 0 artist, 1 album, 2 title.

    `table`: (n_buckets, size), and the step of each of its rows, (n_buckets,). `evidence`: zeros, (3, n_languages).
    """
    (n_fields, n_languages), size = evidence.shape, table[0].shape[1]
    views_at = n_fields * size
    scripts_at = views_at + 2 * (n_fields + 1) * n_languages
    n_scripts = (len(x_lang) - scripts_at) // n_fields - 1
    n_known = np.zeros(n_fields, np.float32)
    for i in range(len(places)):
        field = places[i]
        scripts = x_lang[scripts_at + field * n_scripts :][:n_scripts]
        buckets, n_known[field] = take_apart(spelled, first + i, tables, evidence[field], scripts)
        add_up(table, buckets, x_lang[field * size :][:size])
        x_lang[len(x_lang) - n_fields + field] = 1.0
    weigh_fields(evidence, n_known, x_lang[views_at:scripts_at])


@compiled
def add_up(table: Table, buckets: IndexArray, total: FloatArray) -> None:
    """The sum of these rows of the table over the root of their number into `total`, (embedding_size,) zeros."""
    rows, steps = table
    for bucket in buckets:
        row, step = rows[bucket], steps[bucket]
        for i in range(len(total)):
            total[i] += step * np.float32(row[i])
    root = np.float32(np.sqrt(max(1, len(buckets))))
    for i in range(len(total)):
        total[i] /= root


# --- the networks -----------------------------------------------------------------------------------------------------


def _half_reader() -> Callable[[np.uint16], np.float32]:
    """Builds what reads a float of 16 bits, given as its bits: compiled, one instruction of the processor."""

    def read(_: Any, bits: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

        return types.float32(types.uint16), generate

    return intrinsic(read)  # type: ignore[return-value]


CONVERTS_HALVES = converts_halves()
read_weight: Callable[[Any], np.float32] = _half_reader() if CONVERTS_HALVES else np.float32


def as_read(weights: npt.NDArray[np.float16]) -> Halves | FloatArray:
    """Weights of 16 bits, in the form in which `read_weight` takes them here."""
    return weights.view(np.uint16) if CONVERTS_HALVES else weights.astype(np.float32)


@compiled
def read_songs(
    spelled: Spelled, starts: IndexArray, places: IndexArray, tables: Tables, table: Table, weights: Weights, biases: Biases
) -> FloatArray:
    """The posteriors over the classes, (n, n_classes), of n songs, each to the bit as if it were alone.

    Texts starts[song] to starts[song + 1] of `spelled` are of a song; text i is field `places[i]`: see `read_fields`.
    """
    n_songs, n_fields, n_networks, width = len(starts) - 1, 3, weights[0].shape[0], table[0].shape[1]
    n_counted = weights[0].shape[1] - n_fields * (width // n_networks)
    x = np.zeros((n_songs, n_fields * width + n_counted), np.float32)
    for song in range(n_songs):
        first, stop = starts[song], starts[song + 1]
        evidence = np.zeros((n_fields, tables[2].shape[1]), np.float32)
        read_fields(spelled, first, places[first:stop], tables, table, evidence, x[song])
    logits = mean_logits(x, n_fields, width // n_networks, weights, biases)
    for song in range(n_songs):
        to_shares(logits[song])
    return logits


@compiled
def to_shares(values: FloatArray) -> None:
    """Logits → their softmax."""
    largest, total = maximum(values), np.float32(0.0)
    for i in range(len(values)):
        values[i] = np.exp(values[i] - largest)
        total += values[i]
    for i in range(len(values)):
        values[i] /= total


@compiled
def mean_logits(x: FloatArray, n_fields: int, size: int, weights: Weights, biases: Biases) -> FloatArray:
    """The networks' mean logits, (n, n_classes). A row of x: by field the `size` sums of each network, then what all see."""
    n_networks, n_in, _ = weights[0].shape
    total = np.zeros((len(x), weights[-1].shape[2]), np.float32)
    for network in range(n_networks):
        h = np.empty((len(x), n_in), np.float32)
        for song in range(len(x)):
            for field in range(n_fields):
                copy(x[song, (field * n_networks + network) * size :], h[song, field * size : (field + 1) * size])
            copy(x[song, n_fields * n_networks * size :], h[song, n_fields * size :])
        for layer in range(len(weights)):
            h = next_layer(h, layer > 0, weights[layer][network], biases[layer][network])
        for song in range(len(x)):
            add(h[song], total[song])
    for song in range(len(x)):
        for i in range(total.shape[1]):
            total[song, i] /= np.float32(n_networks)
    return total


@compiled
def next_layer(h: FloatArray, rectified: bool, weight: Halves | FloatArray, bias: FloatArray) -> FloatArray:
    """bias + h @ weight, (n, n_out); if `rectified`, with 0 in the place of what is less in h."""
    out = np.empty((len(h), len(bias)), np.float32)
    for song in range(len(h)):
        copy(bias, out[song])
        if rectified:
            for i in range(h.shape[1]):
                h[song, i] = max(h[song, i], np.float32(0.0))
    add_products(h, weight, out)
    return out


@compiled
def add_products(x: FloatArray, weight: Halves | FloatArray, out: FloatArray) -> None:
    """out += x @ weight, each row in its own order: four rows of the weights at a time, those with an input of 0 left out.

    All rows of x use some of the weights before any goes on, since fetching these takes as long as multiplying.
    """
    rows = np.zeros((len(x), x.shape[1] + 3), np.int64)
    counts, done = np.zeros(len(x), np.int64), np.zeros(len(x), np.int64)
    for song in range(len(x)):
        for row in range(x.shape[1]):
            rows[song, counts[song]] = row
            counts[song] += x[song, row] != 0.0
    for stop in range(ROWS_AT_ONCE, x.shape[1] + ROWS_AT_ONCE, ROWS_AT_ONCE):
        for song in range(len(x)):
            i, n, own = done[song], counts[song], rows[song]
            while i < n and own[i] < stop:
                add_four(x[song], own[i : i + 4], n - i, weight, out[song])
                i += 4
            done[song] = i


@compiled
def add_four(x: FloatArray, rows: IndexArray, n: int, weight: Halves | FloatArray, out: FloatArray) -> None:
    """Adds these four rows of the weights, each times its input, to `out`; the first n of them if n is smaller."""
    a, b, c, d = rows[0], rows[1], rows[2], rows[3]
    xa = x[a]
    xb = x[b] if n > 1 else np.float32(0.0)
    xc = x[c] if n > 2 else np.float32(0.0)
    xd = x[d] if n > 3 else np.float32(0.0)
    wa, wb, wc, wd = weight[a], weight[b], weight[c], weight[d]
    for j in range(len(out)):
        out[j] += xa * read_weight(wa[j]) + xb * read_weight(wb[j]) + xc * read_weight(wc[j]) + xd * read_weight(wd[j])

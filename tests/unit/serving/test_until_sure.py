"""Listening until sure: a few windows at a time, and no more once further ones would hardly change the answer."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from app.audio.spec import WindowSpec
from app.domain import AUDIO, TEXT, FloatArray, Language, Mode, Reading, Scores, Track
from app.families.contract import AudioBranch, Backend, InputBranch, Listen, Manifest, Precision, Target
from app.families.tasks import Bounds, LanguageTask
from app.serving.identification import Identification
from tests.releases import tiny_manifest
from tests.unit.serving.identifying import MAX_WINDOWS, Parts, identifying

LANGUAGES = (Language("en", "eng", "English"), Language("fr", "fra", "French"))


class Silent:
    """A listener that is never prepared: the tests listen for it. Implements `contract.Listener`."""

    n_features = 2

    def precisions(self, backend: Backend) -> tuple[Precision, ...]:
        return ("fp32",)

    def forget(self) -> None:
        """There are no weights."""

    def prepare(self, target: Target) -> Listen:
        def listen(samples: Tensor) -> Tensor:
            return samples[:, :2]

        return listen


class Wordless:
    """Names say nothing to it. Implements `contract.InputBranch`."""

    field = None

    def read(self, track: Track) -> Reading | None:
        return None


class SureAfter:
    """A release that is sure after `n_windows`; implements `contract.Model`."""

    def __init__(self, n_windows: int, *, first: int | None = 1, most: int | None = None) -> None:
        self.manifest: Manifest = tiny_manifest()
        self.audio = AudioBranch(WindowSpec(8_000, 24_000, positions=(0.5, 0.2, 0.8)), Silent(), first, most)
        self.inputs: Mapping[str, InputBranch] = {TEXT: Wordless()}
        self.task = LanguageTask(LANGUAGES, Bounds())
        self._n_windows = n_windows

    def combine(self, features: Mapping[str, FloatArray], mode: Mode) -> Scores:
        rows = features[AUDIO]
        return Scores(rows.mean(axis=0), rows, enough=len(rows) >= self._n_windows)


def features_of(window: FloatArray) -> FloatArray:
    """(2,) that depend on every sample of the window."""
    share = float(np.abs(window).mean())
    return np.array([share, 1 - share], np.float32)


def run(model: SureAfter, *files: bytes, **options: Any) -> tuple[list[Identification], Parts, list[int]]:
    """All files at once; the answers, the identifier's parts, and the size of each pass."""
    passes: list[int] = []

    def listen(windows: list[FloatArray]) -> FloatArray:
        passes.append(len(windows))
        return np.stack([features_of(window) for window in windows])

    async def scenario() -> tuple[list[Identification], Parts]:
        async with identifying(model, listen) as parts:
            return await asyncio.gather(*(parts.identify(audio, **options) for audio in files)), parts

    answers, parts = asyncio.run(scenario())
    return answers, parts, passes


def n_heard(answer: Identification) -> int:
    return len(answer.windows)


@pytest.mark.parametrize("sure_after", [1, 2, 3, 5])
def test_no_window_is_listened_to_beyond_the_first_that_makes_sure(sure_after: int) -> None:
    (answer,), _, passes = run(SureAfter(sure_after), b"6")
    assert n_heard(answer) == sure_after
    assert passes == [1] * sure_after


@pytest.mark.parametrize(("sure_after", "decoded"), [(1, [(0, 1)]), (4, [(0, 1), (1, 3)]), (5, [(0, 1), (1, 3), (4, 9)])])
def test_each_further_go_decodes_three_times_as_many_windows(sure_after: int, decoded: list[tuple[int, int]]) -> None:
    _, parts, _ = run(SureAfter(sure_after), b"6")
    assert [(request.skip, request.take) for request in parts.decoder.requests] == decoded


def test_a_file_that_leaves_doubt_is_heard_to_its_last_planned_window() -> None:
    (answer,), parts, _ = run(SureAfter(99), b"5")
    assert n_heard(answer) == 5
    assert [request.skip for request in parts.decoder.requests] == [0, 1, 4]


def test_windows_that_are_decoded_together_are_listened_to_one_by_one() -> None:
    """So that the answer does not depend on how many a decoder is asked for."""
    (three,), parts, passes = run(SureAfter(3, first=2), b"6")
    assert n_heard(three) == 3
    assert passes == [1, 1, 1]
    assert [(request.skip, request.take) for request in parts.decoder.requests] == [(0, 2), (2, 6)]
    (one_by_one,), _, _ = run(SureAfter(3, first=1), b"6")
    np.testing.assert_array_equal(three.scores.probabilities, one_by_one.scores.probabilities)


def test_a_track_that_was_begun_is_answered_before_others_begin() -> None:
    """In turns, the first of 16 tracks would be answered when two thirds of all windows are listened to."""
    passes: list[int] = []

    def listen(windows: list[FloatArray]) -> FloatArray:
        time.sleep(0.02)  # the further windows of those before arrive meanwhile
        passes.append(len(windows))
        return np.stack([features_of(window) for window in windows])

    async def scenario() -> int:
        async with identifying(SureAfter(3), listen) as parts:
            tasks = [asyncio.create_task(parts.identify(b"6")) for _ in range(16)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            found = sum(passes)
            await asyncio.gather(*tasks)
            return found

    n_windows = asyncio.run(scenario())
    assert sum(passes) == 3 * 16
    assert n_windows <= 20


def test_tags_are_asked_for_with_the_first_windows_only() -> None:
    _, parts, _ = run(SureAfter(3), b"6+tags")
    assert [request.read_tags for request in parts.decoder.requests] == [True, False]


@pytest.mark.parametrize(("options", "expected"), [({"windows": 4}, 4), ({"timeline": True}, 6), ({"windows": 7}, 6)])
def test_a_number_of_windows_and_a_timeline_listen_to_all(options: dict[str, Any], expected: int) -> None:
    (answer,), parts, passes = run(SureAfter(1), b"6", **options)
    assert n_heard(answer) == expected
    assert sum(passes) == expected
    (request,) = parts.decoder.requests
    assert (request.take, request.whole) == (None, "timeline" in options)


@pytest.mark.parametrize(
    ("most", "options", "planned"),
    [
        (3, {}, 3),
        (None, {}, MAX_WINDOWS),
        (99, {}, MAX_WINDOWS),
        (3, {"timeline": True}, MAX_WINDOWS),
        (3, {"windows": 5}, 5),
    ],
)
def test_the_plan_is_bounded_by_the_release_the_server_and_the_client(
    most: int | None, options: dict[str, Any], planned: int
) -> None:
    (answer,), parts, _ = run(SureAfter(99, most=most), b"20", **options)
    assert {request.max_windows for request in parts.decoder.requests} == {planned}
    assert n_heard(answer) == planned


def test_a_release_without_first_windows_decodes_all_at_once() -> None:
    (answer,), parts, passes = run(SureAfter(1, first=None), b"4")
    assert n_heard(answer) == 4
    assert len(parts.decoder.requests) == 1
    assert passes == [4]


def test_the_same_answer_alone_and_beside_other_requests() -> None:
    files = [b"6", b"3", b"8", b"1"]
    together, _, _ = run(SureAfter(3), *files)
    for file, beside in zip(files, together, strict=True):
        (alone,), _, _ = run(SureAfter(3), file)
        assert n_heard(alone) == n_heard(beside) == min(3, int(file))
        np.testing.assert_array_equal(alone.scores.probabilities, beside.scores.probabilities)

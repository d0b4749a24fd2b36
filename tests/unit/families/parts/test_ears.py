"""What the ears make of themselves for a target: same answers within the precision, alone as beside others."""

import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest
import torch

from app.errors import ReleaseError
from app.families.contract import Backend, Precision, Target
from app.families.parts.openvino_backend import import_openvino
from app.families.parts.whisper import Ears
from tests.ears import RANGES, SMALL, noise, small_ears

TOLERANCE = {"fp32": 1e-4, "bf16": 0.05, "int8": 0.2}  # of hidden, whose standard deviation is 1


def runs() -> list[tuple[Backend, Precision]]:
    ears = small_ears(RANGES)
    return [(backend, precision) for backend in get_args(Backend) for precision in ears.precisions(backend)]


@pytest.fixture(scope="module")
def ears() -> Ears:
    """Shared, for what it converts is kept."""
    return small_ears(RANGES)


def test_features_are_hidden_no_speech_and_level() -> None:
    ears = small_ears()
    with torch.inference_mode():
        features = ears(torch.stack([torch.zeros(SMALL.window_samples), torch.full((SMALL.window_samples,), 0.1)]))
    assert features.shape == (2, ears.n_features) == (2, 258)
    assert features.dtype == torch.float32
    assert features[:, 257].tolist() == pytest.approx([-120.0, -20.0])
    assert features[:, 256].tolist() == pytest.approx((features[:, :256] @ ears.no_speech).tolist(), abs=1e-4)


def openvino_has_bf16() -> bool:
    """Without it OpenVINO computes in fp32."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize(("backend", "precision"), runs())
def test_every_target_answers_as_the_network_does(ears: Ears, backend: Backend, precision: Precision) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    samples = noise(2)
    with torch.inference_mode():
        exact = ears(samples)
        given = ears.prepare(Target("cpu", precision, backend, 2))(samples)
    assert given.shape == exact.shape
    assert given.dtype == torch.float32
    apart = (given - exact)[:, :256].abs().max()
    assert apart < TOLERANCE[precision]
    exactly = precision == "fp32" or (backend == "openvino" and precision == "bf16" and not openvino_has_bf16())
    assert (apart > TOLERANCE["fp32"]) != exactly, "it does run in that precision, if the processor has it"
    assert torch.equal(given[:, 257], exact[:, 257]), "the front end stays in floats"


def test_no_conversion_is_kept_below_the_temporary_folder(ears: Ears) -> None:
    """There is the cache of all tests."""
    pytest.importorskip("openvino")
    ears.prepare(Target("cpu", "fp32", "openvino", 1))
    assert Path(os.environ["XDG_CACHE_HOME"]).is_relative_to(tempfile.gettempdir())
    assert not Path(os.environ["XDG_CACHE_HOME"], "lrid-serve").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_an_answer_is_the_same_alone_and_beside_others(ears: Ears, precision: Precision) -> None:
    pytest.importorskip("openvino")
    samples = noise(3)
    with torch.inference_mode():
        alone, in_lane = (ears.prepare(Target("cpu", precision, "openvino", threads)) for threads in (2, 1))
        one_by_one = torch.cat([alone(window[None]) for window in samples])
    with ThreadPoolExecutor(2) as lanes:
        side_by_side = torch.cat(list(lanes.map(lambda window: in_lane(window[None]), samples)))
    assert torch.equal(side_by_side, one_by_one)


def test_preparing_leaves_the_ears_as_they_are() -> None:
    ears, samples = small_ears(RANGES), noise(1)
    with torch.inference_mode():
        before = ears(samples)
        ears.prepare(Target("cpu", "bf16", "torch", 1))
        assert torch.equal(ears(samples), before)
    assert {tensor.dtype for tensor in ears.state_dict().values()} == {torch.float32}


def test_eight_bits_need_ranges_and_openvino() -> None:
    assert "int8" not in small_ears().precisions("openvino")
    with pytest.raises(ReleaseError, match="int8"):
        small_ears().prepare(Target("cpu", "int8", "openvino", 1))
    with pytest.raises(ReleaseError, match="int8"):
        small_ears(RANGES).prepare(Target("cpu", "int8", "torch", 1))
    pytest.importorskip("openvino")
    with pytest.raises(ReleaseError, match=r"no layer 'encoder\.layers\.7\.mlp\.fc1'"):
        small_ears({"encoder.layers.7.mlp.fc1": (0.0, 1.0)}).prepare(Target("cpu", "int8", "openvino", 1))


def test_the_question_is_asked_of_what_was_heard() -> None:
    """Other windows, other answers; and louder is not other."""
    ears, samples = small_ears(), noise(1)
    with torch.inference_mode():
        one, louder, other = (ears(x)[0] for x in (samples, samples * 2, noise(1, seed=5)))
    assert (one - other)[:256].abs().max() > 1e-3
    assert float(louder[257] - one[257]) == pytest.approx(20 * math.log10(2), abs=1e-3)

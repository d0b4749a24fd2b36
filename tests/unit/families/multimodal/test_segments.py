"""Segments of uninterrupted voice, and separators that are installed."""

from pathlib import Path

import pytest
import torch

from app.errors import ReleaseError
from app.families.contract import Target
from app.families.multimodal.listen import ENTRY_POINTS, SegmentListener, separator_of, taken_apart, voiced
from app.families.multimodal.manifest import SegmentConfig, TimbralConfig
from app.families.multimodal.timbral import TimbralHistogram
from tests.ears import SMALL, small_ears

RATE = 1000
CONFIG = SegmentConfig(frame_seconds=0.1, gap_seconds=0.3, least_seconds=0.5, most_segments=2)


def sung(*spans: tuple[float, float], seconds: float = 10.0) -> torch.Tensor:
    """(1, s): noise at -20 dBFS in these spans, silence around them."""
    samples = torch.zeros(1, round(seconds * RATE))
    for start, stop in spans:
        a, b = round(start * RATE), round(stop * RATE)
        samples[0, a:b] = 0.1 * torch.sign(torch.randn(b - a, generator=torch.Generator().manual_seed(0)))
    return samples


def spans(samples: torch.Tensor, config: SegmentConfig = CONFIG) -> list[tuple[float, float]]:
    return [(part.start / RATE, part.stop / RATE) for part in voiced(samples, RATE, config)[0]]


def test_silence_ends_a_segment_and_a_breath_does_not() -> None:
    assert spans(sung((0.5, 2.0), (2.2, 3.0), (5.0, 6.0))) == [(0.5, 3.0), (5.0, 6.0)]
    assert spans(sung((0, 10))) == [(0, 10)]
    assert spans(sung()) == []


def test_short_ones_are_left_out_and_the_longest_are_taken_in_order_of_time() -> None:
    assert spans(sung((0, 1.0), (2.0, 2.3), (3.0, 6.0), (7.0, 9.5))) == [(3.0, 6.0), (7.0, 9.5)]


def test_what_is_silent_is_a_matter_of_the_level() -> None:
    assert spans(sung((1, 4)), CONFIG.model_copy(update={"silence_dbfs": -15.0})) == []
    assert spans(sung((1, 4)) * 0.01, CONFIG) == []  # -60 dBFS


def listener(config: SegmentConfig, timbral: TimbralHistogram | None = None) -> SegmentListener:
    return SegmentListener(small_ears(), timbral, config)


def test_a_segment_is_what_the_ears_make_of_it_alone() -> None:
    config = SegmentConfig(frame_seconds=0.02, gap_seconds=0.1, least_seconds=0.1, most_segments=2)
    torch.manual_seed(0)
    samples = torch.zeros(2, SMALL.window_samples)
    samples[0, 1600:4800], samples[0, 9600:14400] = torch.randn(3200) * 0.1, torch.randn(4800) * 0.1
    heard = listener(config).prepare(Target("cpu", "fp32"))(samples).numpy()
    apart = taken_apart(heard, SMALL.n_state, config)
    assert apart.seconds == pytest.approx([0.2, 0.3], abs=0.021)
    assert apart.owner.tolist() == [0, 0]  # the second window is silent
    alone = torch.zeros(1, SMALL.window_samples)
    alone[0, :4800] = samples[0, 9600:14400]
    expected = small_ears()(alone)[0, : SMALL.n_state].detach().numpy()
    assert apart.embeddings[1] == pytest.approx(expected, abs=1e-4)


def test_a_window_is_heard_the_same_alone_and_beside_others() -> None:
    timbral = TimbralHistogram(TimbralConfig(n_components=3, n_codewords=4))
    torch.manual_seed(0)
    for buffer in timbral.buffers():
        buffer.uniform_(0.5, 1.5)
    samples = torch.randn(3, SMALL.window_samples) * torch.tensor([0.3, 0.0, 0.1])[:, None]
    listen = listener(SegmentConfig(), timbral).prepare(Target("cpu", "fp32"))
    together = listen(samples)
    assert together.shape == (3, listener(SegmentConfig(), timbral).n_features)
    for row, window in zip(together, samples, strict=True):
        torch.testing.assert_close(listen(window[None])[0], row, atol=1e-4, rtol=1e-4)


SEPARATOR = """
import torch

class HalfAsLoud:
    def __call__(self, samples):
        return samples * 0.5
"""


def test_a_separator_is_a_package_that_announces_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_as_loud.py").write_text(SEPARATOR)
    info = tmp_path / "half_as_loud-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half-as-loud\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nhalf = half_as_loud:HalfAsLoud\n")
    monkeypatch.syspath_prepend(tmp_path)
    separator = separator_of("half")
    assert separator is not None
    assert separator(torch.ones(1, 4)).tolist() == [[0.5] * 4]
    config = SegmentConfig(separation="half", silence_dbfs=-20, least_seconds=0)
    samples = torch.full((1, SMALL.window_samples), 0.15)  # -16.5 dBFS; its vocals -22.5
    heard = listener(config).prepare(Target("cpu", "fp32"))(samples).numpy()
    assert not len(taken_apart(heard, SMALL.n_state, config).seconds)


def test_one_that_is_not_installed_is_named() -> None:
    assert separator_of(None) is None
    with pytest.raises(ReleaseError, match="separation 'spleeter' is not installed"):
        listener(SegmentConfig(separation="spleeter"))

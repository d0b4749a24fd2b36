"""What is sung when, and learning to hear it; what needs espeak-ng or pyworld is skipped without them."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.training.test_synthesis_sound import babble
from torch import nn

from app.families.lrid_net.config import ListenConfig
from app.families.lrid_net.listen import ResNet
from app.lab.training.config import TrainConfig
from app.lab.training.corpus import Row, read_manifest
from app.lab.training.data import Crops
from app.lab.training.errors import CorpusError
from app.lab.training.phonemes import UNKNOWN, PhonemeHead, PhonemeScores
from app.lab.training.synthesis.errors import EspeakFailed
from app.lab.training.synthesis.phonemes import REST, read_phonemes, spoken_phonemes, sung_phonemes, write_phonemes
from app.lab.training.synthesis.settings import draw_settings
from app.lab.training.synthesis.voices import SAMPLE_RATE_HZ, speak
from app.lab.training.train import train
from tests.corpora import NETWORK

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="not installed: espeak-ng")
needs_world = pytest.mark.skipif(importlib.util.find_spec("pyworld") is None, reason="not installed: pyworld")
SETTINGS = draw_settings("train", np.random.default_rng(3))


@needs_espeak
@pytest.mark.parametrize("voice", ["de+f2", "en-gb+m2", "pt-br+klatt6"])
def test_phonemes_are_those_of_the_very_samples(voice: str) -> None:
    text = "schön ist die Nacht, du und ich"
    spoken = spoken_phonemes(text, voice, SETTINGS)
    samples = [sample for sample, _ in spoken]
    assert samples == sorted(samples)
    assert samples[-1] == len(speak(text, voice, SETTINGS.words_per_minute, SETTINGS.speech_pitch))
    if voice.startswith("de"):
        assert [ipa for _, ipa in spoken if ipa][:2] == ["ʃ", "øː"]


@needs_espeak
def test_a_voice_that_is_not_there_is_named() -> None:
    with pytest.raises(EspeakFailed, match="no phonemes with voice qqq"):
        spoken_phonemes("a", "qqq", SETTINGS)


@needs_world
def test_phonemes_follow_the_melody() -> None:
    """Five syllables, each named by its number: sung in turn, over and over, with rests between phrases."""
    speech = babble(5)
    syllable = len(speech) / 5
    spoken = [(round(k * syllable), str(k)) for k in range(5)]
    sung = sung_phonemes(speech, spoken, SETTINGS)
    assert [ms for ms, _ in sung] == sorted(ms for ms, _ in sung)
    assert sung[-1][0] < SETTINGS.seconds * 1000
    heard = [int(ipa) for _, ipa in sung if ipa != REST]
    assert set(heard) == set(range(5))
    steps = {(b - a) % 5 for a, b in pairwise(heard)}
    assert steps <= {0, 1}, "a rest may part a syllable; none is left out"


def test_a_file_keeps_them(tmp_path: Path) -> None:
    assert read_phonemes(tmp_path / "a.flac") is None
    phonemes = [(0.0, REST), (8.0, "t͡s"), (240.0, "aɪ")]
    write_phonemes(tmp_path / "a.flac", phonemes)
    assert read_phonemes(tmp_path / "a.flac") == phonemes
    assert [path.name for path in tmp_path.iterdir()] == ["a.phonemes"]


def _rows(folder: Path) -> list[Row]:
    """Two clips of which one is known: 1 s of "a", then "bː", then a rest, over and over; "q" is too rare to count."""
    sung = [(1000.0 * k, ("a", "bː", REST)[k % 3]) for k in range(120)] + [(120_000.0, "q")]
    write_phonemes(folder / "known.wav", sung)
    (folder / "m.csv").write_text("path,label\nknown.wav,en\nunknown.wav,en\n", encoding="utf-8")
    return read_manifest(folder / "m.csv", ["en"])


def test_targets_are_what_is_sung_in_the_middle_of_each_frame(tmp_path: Path) -> None:
    listen = ListenConfig()
    scores = PhonemeScores(_rows(tmp_path), listen)
    assert scores.inventory == ["a", "b"]
    second = SAMPLE_RATE_HZ
    samples = np.zeros((2, 3 * second), np.float32)
    crops = Crops(samples, np.array([3 * second, 0]), np.array([6 * second, 3 * second]))  # the first at twice the speed
    targets = scores.targets(np.array([0, 1]), crops)
    head = PhonemeHead(trunk := ResNet(NETWORK), NETWORK.base_channels * 8, 2)
    spectrogram = torch.zeros(2, 1, 128, (3 * second - 1024) // 256 + 1)
    trunk(spectrogram)
    assert head._heard is not None
    assert targets.shape[1] == head._heard.shape[3]
    at = [round((s * second - 512) / 256 / 8 - 0.5) for s in (0.25, 0.75, 1.25, 1.75, 2.25)]
    assert targets[0, at].tolist() == [0, 1, UNKNOWN, 0, 1]
    assert (targets[1] == UNKNOWN).all()


def test_what_is_unknown_is_not_scored() -> None:
    head = PhonemeHead(trunk := ResNet(NETWORK), NETWORK.base_channels * 8, 3)
    for targets in (torch.full((1, 4), UNKNOWN), torch.tensor([[UNKNOWN, 2, UNKNOWN, UNKNOWN]])):
        trunk(torch.randn(2, 1, 128, 32))
        loss = head.loss(targets)
        assert torch.isfinite(loss)
        assert (loss == 0).item() == bool((targets == UNKNOWN).all())
    assert isinstance(head.linear, nn.Linear)


def test_training_hears_phonemes_and_resumes(config: TrainConfig) -> None:
    told = replace(config, phoneme_loss_weight=0.5, epochs=1)
    with pytest.raises(CorpusError, match="lrid synthesize"):
        train(told)
    rows = read_manifest(config.manifest, config.codes)
    for row in rows:
        assert row.path is not None
        write_phonemes(row.path, [(100.0 * k, "ab"[(k + row.label) % 2]) for k in range(12)])
    try:
        best = train(told)
        assert torch.load(best, weights_only=True)["phonemes"]["linear.weight"].shape[0] == 2
        whole = replace(told, output=config.output / "whole", epochs=2)
        expected = torch.load(train(whole).with_name("last.pt"), weights_only=True)
        found = torch.load(train(replace(told, epochs=2, resume=True)).with_name("last.pt"), weights_only=True)
        assert torch.equal(expected["phonemes"]["linear.weight"], found["phonemes"]["linear.weight"])
    finally:
        for row in rows:
            assert row.path is not None
            row.path.with_suffix(".phonemes").unlink()

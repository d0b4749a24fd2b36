"""A conversion is kept for the next start, and never used for another network."""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.families.parts.openvino_backend import Convertible

WINDOW = torch.arange(3.0)[None]


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, 2).requires_grad_(False)


def test_the_second_start_converts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    first = Convertible(network(0), (1, 3)).compile("fp32", 1)(WINDOW)
    assert np.allclose(first, network(0)(WINDOW), atol=1e-5)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert torch.equal(Convertible(network(0), (1, 3)).compile("fp32", 1)(WINDOW), first)
    with pytest.raises(AssertionError, match="again"):
        Convertible(network(1), (1, 3))

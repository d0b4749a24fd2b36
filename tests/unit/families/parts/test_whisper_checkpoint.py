"""Checkpoints by their official names: the whole one and the cut one are read alike, a wrong one is refused by name."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from app.errors import ReleaseError
from app.families.parts.configs import WhisperConfig
from app.families.parts.whisper_checkpoint import LANGUAGES, ears_from_checkpoint
from tests.whisper_reference import CUT, random_checkpoint

FC1 = "model.encoder.layers.1.fc1.weight"
TOKENS = "model.decoder.embed_tokens.weight"


def written(folder: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_sizes_come_from_the_tensors(tmp_path: Path) -> None:
    loaded = ears_from_checkpoint(written(tmp_path, random_checkpoint(n_mels=40)), n_positions=20)
    assert loaded.ears.config == WhisperConfig(n_mels=40, n_positions=20, n_state=128, n_head=2, n_layer=2)
    assert loaded.ears.config.window_samples == 6400
    assert loaded.ears.n_features == 130
    assert loaded.rows.shape == (99, 128)
    assert not loaded.ears.training


def test_whole_and_cut_tables_are_read_alike(tmp_path: Path) -> None:
    cut = random_checkpoint()
    whole = dict(cut)
    whole[TOKENS] = torch.zeros(51865, 128)
    whole[TOKENS][50257:] = 7.0
    whole[TOKENS][50257:50365] = whole.pop(CUT)
    positions = "model.decoder.embed_positions.weight"
    whole[positions] = torch.cat([cut[positions], torch.ones(444, 128)])
    one = ears_from_checkpoint(written(tmp_path, cut), n_positions=50)
    other = ears_from_checkpoint(written(tmp_path, whole), n_positions=50)
    assert torch.equal(one.rows, other.rows)
    states = one.ears.state_dict(), other.ears.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_stored_in_halves_it_runs_in_floats(tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in random_checkpoint().items()}
    loaded = ears_from_checkpoint(written(tmp_path, halves), n_positions=50)
    assert {tensor.dtype for tensor in loaded.ears.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop(FC1), FC1),
        (lambda t: t.update({FC1: t[FC1][:, :64].clone()}), FC1),
        (lambda t: t.update({FC1: t[FC1].flatten()}), FC1),
        (lambda t: t.update({FC1: t[FC1].int()}), FC1),
        (lambda t: t[FC1][3].fill_(float("nan")), FC1),
        (lambda t: t.pop("model.encoder.conv1.weight"), "model.encoder.conv1.weight"),
        (lambda t: t.pop(CUT), TOKENS),
        (lambda t: t.update({TOKENS: t.pop(CUT)}), TOKENS),
        (lambda t: t.pop("model.decoder.layers.1.self_attn.v_proj.bias"), "model.decoder.layers.1.self_attn.v_proj.bias"),
        (
            lambda t: t.update({"model.encoder.embed_positions.weight": torch.zeros(49, 128)}),
            "model.encoder.embed_positions.weight",
        ),
    ],
)
def test_a_wrong_tensor_is_refused_by_name(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], named: str
) -> None:
    tensors = random_checkpoint()
    change(tensors)
    with pytest.raises(ReleaseError, match=f"tensor '{named}'"):
        ears_from_checkpoint(written(tmp_path, tensors), n_positions=50)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ReleaseError, match=r"model\.safetensors"):
        ears_from_checkpoint(path)
    path.write_bytes(b"not tensors at all")
    with pytest.raises(ReleaseError, match=r"model\.safetensors"):
        ears_from_checkpoint(path)


def test_the_languages_are_whispers() -> None:
    assert len(set(LANGUAGES)) == len(LANGUAGES) == 99
    assert (LANGUAGES[0], LANGUAGES[1], LANGUAGES[98]) == ("en", "zh", "su")

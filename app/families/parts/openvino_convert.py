"""Converts one module: `python -m app.families.parts.openvino_convert SOURCE TARGET SHAPE`, for `openvino_backend` only."""

import sys
import warnings

import torch

from app.families.parts.openvino_backend import import_openvino


def convert(source: str, target: str, shape: tuple[int, ...]) -> None:
    """A module as `torch.save` wrote it → OpenVINO's own format, in full precision."""
    openvino = import_openvino()
    torch.set_num_threads(1)
    module = torch.load(source, weights_only=False)  # written a moment ago by the process that started this one
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)  # torch warns of what torch does
        exported = torch.export.export(module, (torch.zeros(shape),))
        openvino.save_model(openvino.convert_model(exported), target, compress_to_fp16=False)


if __name__ == "__main__":
    convert(sys.argv[1], sys.argv[2], tuple(map(int, sys.argv[3].split(","))))

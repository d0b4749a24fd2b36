"""f(0) is a constant of the release: the same bits at every load, or a swap would change answers about names."""

import numpy as np
import torch

from app.domain import TEXT, Metadata
from app.families.lrid_net.model import LridNetModel, build_network
from tests.releases import tiny_manifest


def test_threads_do_not_change_answers_about_names() -> None:
    torch.manual_seed(0)
    manifest = tiny_manifest()
    weights = {name: tensor for name, tensor in build_network(manifest).state_dict().items() if "num_batches" not in name}
    threads = torch.get_num_threads()
    answers = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            model = LridNetModel(manifest, dict(weights))
            reading = model.reader(Metadata(title="La vie en rose"))
            answers.append(model.combine({TEXT: reading.vector}, frozenset({TEXT})).probabilities)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert all(np.array_equal(answer, answers[0]) for answer in answers)

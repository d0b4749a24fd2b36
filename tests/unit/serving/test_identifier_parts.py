"""Requests whose release has not everything: no ears, no reader of names."""

import asyncio

import numpy as np
import pytest

from app.domain import AUDIO, TEXT
from app.errors import ModalityNotUsed, NothingUsable
from app.families.lrid_net.model import LridNetModel
from tests.releases import tiny_model
from tests.unit.serving.identifying import SETTINGS, TITLE, serving


@pytest.fixture(scope="module")
def deaf() -> LridNetModel:
    """A release that does not listen."""
    return tiny_model(**SETTINGS, training={"listens": False})


# --- a release that does not listen -----------------------------------------------------------------------------------


def test_audio_is_not_decoded_for_a_release_that_does_not_listen(deaf: LridNetModel) -> None:
    async def scenario() -> None:
        async with serving(deaf) as parts:
            found = await parts.identify(b"4+tags", TITLE)
            assert found.modalities[AUDIO].reason == "not_trusted"
            assert (found.mode, found.recording) == (frozenset({TEXT}), None)
            with pytest.raises(NothingUsable, match="does not listen to audio, and no metadata was given"):
                await parts.identify(b"4+tags", tags=False)
            assert parts.decoder.requests == []

    asyncio.run(scenario())


def test_such_a_release_has_the_file_opened_for_its_tags_alone(deaf: LridNetModel) -> None:
    async def scenario() -> None:
        async with serving(deaf) as parts:
            found = await parts.identify(b"4+tags")
            assert (found.source(TEXT), found.modalities[AUDIO].reason) == ("tags", "not_trusted")
            assert [(request.take, request.read_tags) for request in parts.decoder.requests] == [(0, True)]
            with pytest.raises(NothingUsable, match="does not listen"):
                await parts.identify(b"4")

    asyncio.run(scenario())


# --- a release that does not read names ------------------------------------------------------------------------------


def test_names_beside_audio_do_not_count_and_are_refused_alone() -> None:
    model = tiny_model(**SETTINGS)
    model.inputs = {}

    async def scenario() -> None:
        async with serving(model) as parts:
            found = await parts.identify(b"1+tags", TITLE)
            assert (found.mode, found.modalities[TEXT].reason) == (frozenset({AUDIO}), "not_trusted")
            untitled = await parts.identify(b"1+tags")
            assert (untitled.track.metadata.fields, untitled.modalities[TEXT].reason) == ((), "not_given")
            np.testing.assert_array_equal(found.scores.probabilities, untitled.scores.probabilities)
            assert not any(request.read_tags for request in parts.decoder.requests)
            with pytest.raises(ModalityNotUsed, match="this release reads audio only"):
                await parts.identify(None, TITLE)
            with pytest.raises(NothingUsable, match="the audio is silent, and this release does not read metadata"):
                await parts.identify(b"0", TITLE)

    asyncio.run(scenario())

"""KServe's own client on /v2. It wants older protobuf and psutil than the other tests: an environment of its own has it."""

import asyncio
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.service.live import LiveServer

kserve = pytest.importorskip("kserve", reason="kserve is not installed: see tests/README.md", exc_type=ImportError)
TITLES = ["Quand il me prend dans ses bras", "Für immer jung"]


def infer(server: LiveServer, *inputs: Any, model: str = "lrid") -> Any:
    async def ask() -> Any:
        client = kserve.InferenceRESTClient(config=kserve.RESTConfig(protocol="v2"))
        try:
            assert await client.is_server_live(address(server))
            assert await client.is_server_ready(address(server))
            assert await client.is_model_ready(address(server), "lrid")
            request = kserve.InferRequest(model_name=model, infer_inputs=list(inputs))
            return await client.infer(address(server), request, model_name=model)
        finally:
            await client.close()

    return asyncio.run(ask())


def address(server: LiveServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def tensor(name: str, values: list[Any], *, binary: bool) -> Any:
    made = kserve.InferInput(name, [len(values)], "BYTES")
    made.set_data_from_numpy(np.array(values, dtype=np.object_), binary_data=binary)
    return made


@pytest.mark.parametrize("binary", [True, False])
def test_names(server: LiveServer, binary: bool) -> None:
    found = infer(server, tensor("title", TITLES, binary=binary))
    outputs = {one.name: one.as_numpy() for one in found.outputs}
    expected = [server.identify(json={"title": title}).json() for title in TITLES]
    assert [text(one) for one in outputs["language"]] == [one["language"] for one in expected]
    assert outputs["probability"].tolist() == pytest.approx([one["probability"] for one in expected])


def test_audio(server: LiveServer, clip: bytes) -> None:
    found = infer(server, tensor("audio", [clip], binary=True))
    (answer,) = next(one.as_numpy() for one in found.outputs if one.name == "answer")
    assert json.loads(text(answer))["modalities"]["audio"]["used"]


def test_errors_reach_the_client(server: LiveServer) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="nothing_usable"):
        infer(server, tensor("title", ["1999"], binary=False))
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        infer(server, tensor("title", TITLES, binary=False), model="bert")


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

"""The Open Inference Protocol v2, spoken by Triton's own client and by hand."""

import base64
import gzip
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.service.live import LiveServer

TITLES = ["Quand il me prend dans ses bras", "Für immer jung"]


@pytest.fixture
def client(server: LiveServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def tensor(
    name: str, values: list[str | bytes], *, binary: bool = True, shape: list[int] | None = None
) -> triton.InferInput:
    made = triton.InferInput(name, shape or [len(values)], "BYTES")
    made.set_data_from_numpy(np.array(values, dtype=np.object_).reshape(shape or [len(values)]), binary_data=binary)
    return made


def test_server_and_model(server: LiveServer, client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    for name, version, ready in (("lrid", "", True), ("lrid_net", "1", True), ("lrid_net", "2", False), ("bert", "", False)):
        assert client.is_model_ready(name, version) is ready
    metadata = client.get_model_metadata("lrid_net", "1")
    assert (metadata["name"], metadata["versions"]) == ("lrid_net", ["1"])
    assert [one["name"] for one in metadata["inputs"]] == ["audio", "artist", "album", "title"]
    assert {one["name"]: one["datatype"] for one in metadata["outputs"]}["probability"] == "FP32"


def test_a_version_stands_in_the_path_alone(server: LiveServer) -> None:
    """The protocol has no query: what stands there changes nothing."""
    for path, status in (("", 200), ("/versions/1", 200), ("/versions/2", 404)):
        of_model = f"/v2/models/lrid{path}"
        for query in ("", "?release=2", "?release=1"):
            assert server.client.get(of_model + query).status_code == status
            assert server.client.get(f"{of_model}/ready{query}").status_code == status
            assert server.client.post(f"{of_model}/infer{query}", json={"inputs": [title()]}).status_code == status
    operations = [one for methods in server.client.get("/openapi.json").json()["paths"].values() for one in methods.values()]
    placed = {(one["name"], one["in"]) for operation in operations for one in operation.get("parameters", ())}
    assert ("release", "path") in placed
    assert ("release", "query") not in placed


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_names(server: LiveServer, client: triton.InferenceServerClient, binary: bool, shape: list[int]) -> None:
    wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("language", "probability", "languages")]
    result = client.infer(
        "lrid",
        [tensor("title", [*TITLES], binary=binary, shape=shape)],
        outputs=wanted,
        request_id="7",
        parameters={"top_k": 3},
    )
    expected = [server.identify(json={"title": title, "top_k": 3}).json() for title in TITLES]
    assert [one.decode() if binary else one for one in result.as_numpy("language")] == [one["language"] for one in expected]
    assert result.as_numpy("probability").tolist() == pytest.approx([one["probability"] for one in expected])
    assert result.as_numpy("languages").shape == (2, 3)
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("7", "lrid", "1")


def test_songs(server: LiveServer, client: triton.InferenceServerClient, clip: bytes) -> None:
    """Audio for both, a title for one; the whole answer as identify gives it."""
    before = server.metric("lrid_requests_total", outcome="ok", modalities="both")
    result = client.infer("lrid", [tensor("audio", [clip, clip]), tensor("title", [b"", TITLES[0].encode()])])
    found = [json.loads(answer) for answer in result.as_numpy("answer")]
    alone = [server.identify(files={"audio": clip}), server.identify(files={"audio": clip}, data={"title": TITLES[0]})]
    assert [one["languages"] for one in found] == [one.json()["languages"] for one in alone]
    probabilities = result.as_numpy("probabilities")
    assert probabilities.shape == (2, len(found[0]["languages"]))
    assert probabilities.sum(axis=1).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert server.metric("lrid_requests_total", outcome="ok", modalities="both") == before + 2
    assert server.metric("lrid_upload_bytes") == 0


def test_errors_reach_the_client(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="nothing_usable"):
        client.infer("lrid", [tensor("title", ["1999"])])
    with pytest.raises(InferenceServerException, match="audio_unknown_format"):
        client.infer("lrid", [tensor("audio", [b"\x89PNG and so on, as long as it is no audio"])])
    with pytest.raises(InferenceServerException, match="not served; lrid_net, version 1, is"):
        client.infer("bert", [tensor("title", ["La vie"])])
    with pytest.raises(InferenceServerException, match="no output 'logits'"):
        client.infer("lrid", [tensor("title", ["La vie"])], outputs=[triton.InferRequestedOutput("logits")])


# --- by hand ----------------------------------------------------------------------------------------------------------


def title(**changes: Any) -> dict[str, Any]:
    return {"name": "title", "datatype": "BYTES", "shape": [1], "data": [TITLES[0]]} | changes


def ask(server: LiveServer, body: Any, binary: bytes = b"", **headers: str) -> httpx.Response:
    header = body if isinstance(body, bytes) else json.dumps(body).encode()
    if binary:
        headers = {"Inference-Header-Content-Length": str(len(header))} | headers
    return server.client.post("/v2/models/lrid/infer", content=header + binary, headers=headers)


def test_audio_in_json_is_base64(server: LiveServer, clip: bytes) -> None:
    audio = {"name": "audio", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(clip).decode()]}
    response = ask(server, {"inputs": [audio], "outputs": [{"name": "language"}]})
    assert response.status_code == 200, response.text
    (output,) = response.json()["outputs"]
    assert output == {
        "name": "language",
        "datatype": "BYTES",
        "shape": [1],
        "data": [server.identify(files={"audio": clip}).json()["language"]],
    }


def test_nested_data_gzip_and_binary_of_all(server: LiveServer) -> None:
    body = json.dumps({"inputs": [title(shape=[1, 1], data=[[TITLES[0]]])], "parameters": {"binary_data_output": True}})
    response = ask(server, gzip.compress(body.encode()), b"", **{"Content-Encoding": "gzip"})
    at = int(response.headers["inference-header-content-length"])
    outputs = json.loads(response.content[:at])["outputs"]
    assert sum(one["parameters"]["binary_data_size"] for one in outputs) == len(response.content) - at


BYTES = struct.pack("<I", 6) + b"La vie"
BAD: dict[str, tuple[Any, bytes]] = {
    "no JSON": (b"{", b""),
    "no inputs": ({}, b""),
    "no input": ({"inputs": []}, b""),
    "wrong datatype": ({"inputs": [title(datatype="FP32", data=[1.0])]}, b""),
    "number for a string": ({"inputs": [title(data=[1])]}, b""),
    "shape of three": ({"inputs": [title(shape=[1, 1, 1])]}, b""),
    "wide shape": ({"inputs": [title(shape=[1, 2], data=["a", "b"])]}, b""),
    "negative shape": ({"inputs": [title(shape=[-1])]}, b""),
    "empty shape": ({"inputs": [title(shape=[0], data=[])]}, b""),
    "huge shape": ({"inputs": [title(shape=[10**12], data=["a"])]}, b""),
    "shape of more than came": ({"inputs": [title(shape=[2])]}, b""),
    "inputs of two lengths": ({"inputs": [title(), title(name="artist", shape=[2], data=["a", "b"])]}, b""),
    "input twice": ({"inputs": [title(), title()]}, b""),
    "input that is an option": ({"inputs": [title(), title(name="top_k")]}, b""),
    "no data": ({"inputs": [title(data=None)]}, b""),
    "output twice": ({"inputs": [title()], "outputs": [{"name": "answer"}] * 2}, b""),
    "values without end": ({"inputs": [title(data=[[]] * 300_000)]}, b""),
    "audio that is no base64": ({"inputs": [title(name="audio")]}, b""),
    "binary and data": ({"inputs": [title(parameters={"binary_data_size": 10})]}, BYTES),
    "more binary than came": ({"inputs": [title(data=None, parameters={"binary_data_size": 11})]}, BYTES),
    "less binary than came": ({"inputs": [title(data=None, parameters={"binary_data_size": 10})]}, BYTES + b"x"),
    "binary size that is none": ({"inputs": [title(data=None, parameters={"binary_data_size": "10"})]}, BYTES),
    "negative binary size": ({"inputs": [title(data=None, parameters={"binary_data_size": -1})]}, BYTES),
    "element that lies": ({"inputs": [title(data=None, parameters={"binary_data_size": 10})]}, b"\xff" * 4 + b"La vie"),
    "element without its length": ({"inputs": [title(data=None, parameters={"binary_data_size": 12})]}, BYTES + b"\0\0"),
}


@pytest.mark.parametrize("name", BAD)
def test_tensors_that_are_none(server: LiveServer, name: str) -> None:
    response = ask(server, *BAD[name])
    assert response.status_code == 400, response.text
    assert set(response.json()) == {"error"}
    assert response.json()["error"].startswith(("invalid_tensor: ", "malformed_json: "))


@pytest.mark.parametrize("length", ["0", "-1", "x", "99999999999", "5", "1000"])
def test_header_lengths_that_lie(server: LiveServer, length: str) -> None:
    response = ask(server, {"inputs": [title()]}, b"", **{"Inference-Header-Content-Length": length})
    assert (response.status_code, set(response.json())) == (400, {"error"})


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"inputs": [title(data=["!"])]}, 422, "nothing_usable"),
        ({"inputs": [title(name="titel")]}, 422, "invalid_option"),
        ({"inputs": [title()], "parameters": {"topk": 1}}, 422, "invalid_option"),
        ({"inputs": [title()], "parameters": {"languages": "tlh"}}, 422, "unknown_language"),
        ({"inputs": [title(data=["a" * 1001])]}, 413, "metadata_too_long"),
    ],
)
def test_errors_of_a_track(server: LiveServer, changes: dict[str, Any], status: int, code: str) -> None:
    response = ask(server, changes)
    assert (response.status_code, response.json()["error"].split(":")[0]) == (status, code)


def test_bounds_are_those_of_identify(server: LiveServer) -> None:
    before = server.peak_memory_mb()
    response = ask(
        server, {"inputs": [title(name="audio", data=None, parameters={"binary_data_size": 1})]}, bytes(70_000_000)
    )
    assert (response.status_code, response.json()["error"].split(":")[0]) == (413, "upload_too_large")
    late = ask(server, {"inputs": [title()]}, b"", **{"X-Request-Timeout": "0.000001"})
    assert (late.status_code, set(late.json())) == (504, {"error"})
    assert server.metric("lrid_upload_bytes") == 0
    assert server.peak_memory_mb() < before + 200


def test_many_values_in_json_are_refused_before_they_are_read(server: LiveServer) -> None:
    """Few bytes of gzip become many objects; reading them would hold up every other request."""
    body = b'{"inputs": [{"name": "title", "datatype": "BYTES", "shape": [1], "data": [%s[]]}]}' % (b"[]," * 10_000_000)
    before, packed = server.peak_memory_mb(), gzip.compress(body, 1)
    response = ask(server, packed, b"", **{"Content-Encoding": "gzip"})
    assert (response.status_code, response.json()["error"].split(":")[0]) == (400, "invalid_tensor")
    assert "fewer tracks" in response.json()["error"]
    assert server.peak_memory_mb() < before + 200


def test_unready_and_keys(tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tmp_path, api_keys="key") as live:
        assert live.client.get("/v2/health/live").status_code == 200
        assert live.client.get("/v2/health/ready").status_code == 400
        assert live.client.get("/v2").json() == {"error": live.client.get("/v2").json()["error"]}
        response = live.client.get("/v2/models/lrid", headers={"X-API-Key": "key"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "3")
        assert response.json()["error"].startswith("not_ready: ")

"""A client that openapi-python-client generates from the OpenAPI document asks a running server."""

import importlib
import importlib.util
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.service.live import LiveServer

# NDJSON is a stream of bytes to the generator; its hooks would only format what it writes.
CONFIG = "content_type_overrides:\n  application/x-ndjson: application/octet-stream\npost_hooks: []\n"
CLIENT = "lrid_generated"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openapi_python_client") is None, reason="openapi-python-client is not installed"
)


@pytest.fixture(scope="module")
def generated(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A package, made without a warning."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(server.client.get("/openapi.json").json()))
    (folder / "config.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json"]
    command += ["--config", "config.yaml", "--output-path", CLIENT, "--meta", "none", "--fail-on-warning"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    yield importlib.import_module(CLIENT)
    sys.path.remove(str(folder))


def part(name: str) -> Any:
    return importlib.import_module(f"{CLIENT}.{name}")


def test_every_path_has_a_call(generated: ModuleType, server: LiveServer) -> None:
    assert generated.__file__ is not None
    made = {path.stem for path in Path(generated.__file__).parent.glob("api/*/*.py")} - {"__init__"}
    document = server.client.get("/openapi.json").json()
    assert len(made) == sum(len(methods) for methods in document["paths"].values())


def test_names_and_a_song(generated: ModuleType, server: LiveServer, clip: bytes) -> None:
    identify, models = part("api.default.identify_identify_post"), part("models")
    with generated.Client(base_url=str(server.client.base_url)) as client:
        by_names = identify.sync(client=client, body=models.IdentifyIdentifyPostJsonBody(title="La vie en rose"), top_k=2)
        audio = part("types").File(payload=io.BytesIO(clip), file_name="clip.wav")
        heard = identify.sync(client=client, body=models.IdentifyIdentifyPostFilesBody(audio=audio))
        refused = identify.sync(client=client, body=models.IdentifyIdentifyPostJsonBody(title="1999"))
    expected = server.identify(json={"title": "La vie en rose", "top_k": 2}).json()
    assert (by_names.language, len(by_names.languages)) == (expected["language"], 2)
    assert heard.modalities.audio.used
    assert isinstance(refused, models.Problem)
    assert refused.code == "nothing_usable"

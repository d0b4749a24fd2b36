"""Releases are swapped under load without a lost or mixed answer; bad ones are refused by name; answers are determined."""

import asyncio
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save

from app.families.store import WEIGHTS
from tests.releases import edit_manifest, replace_weights, write_release
from tests.service.faulty import clip
from tests.service.hard import ask_all, without_times
from tests.service.live import LiveServer, wait_until
from tests.service.openloop import Sent, audio_post, json_post, open_loop
from tests.service.problems import check_problem

KEY = {"Authorization": "Bearer admin"}
REQUESTS = (
    audio_post(clip(0.3)),
    audio_post(clip(0.4), {"title": "La vie en rose", "artist": "Édith Piaf"}),
    json_post({"title": "Nel blu dipinto di blu"}),
    json_post({"title": "사랑해", "explain": True}),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    for number in (1, 2):
        write_release(store, release=str(number), seed=number)
    return store


@pytest.fixture(scope="module")
def live(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("swapping")
    with LiveServer(folder, model_store=store, admin_keys="admin", max_batch_size=4) as server:
        yield server.wait_until_ready()


def swap(live: LiveServer, release: str) -> dict[str, Any]:
    response = live.client.post("/admin/releases", json={"model": f"lrid_net/{release}"}, headers=KEY)
    assert response.status_code == 200, response.text
    return response.json()


def answers_by_release(live: LiveServer) -> dict[str, list[dict[str, Any]]]:
    """What each release says to REQUESTS when nothing else happens."""
    answers = {}
    for release in ("2", "1"):
        assert swap(live, release)["release"] == release
        answers[release] = [without_times(reply) for reply in ask_all(live.port, REQUESTS)]
    assert answers["1"] != answers["2"]
    return answers


def load_while(live: LiveServer, work: Callable[[], None]) -> list[Sent]:
    """Open-loop load that goes on until `work`, in a thread, is done, and one second more."""

    async def run() -> list[Sent]:
        sent: list[Sent] = []
        working = asyncio.create_task(asyncio.to_thread(work))
        last_round = False
        while not last_round:
            last_round = working.done()
            sent += await open_loop(live.port, lambda n: REQUESTS[n % len(REQUESTS)], per_second=12, seconds=1)
        await working
        return sent

    return asyncio.run(run())


def check_none_lost_none_mixed(sent: list[Sent], answers: dict[str, list[dict[str, Any]]]) -> None:
    assert {one.status for one in sent} == {200}
    for one in sent:
        answer = without_times(one.reply)
        assert answer == answers[answer["model"]["release"]][one.number % len(REQUESTS)]
    assert {one.reply.json()["model"]["release"] for one in sent} == {"1", "2"}


def test_swapped_under_load(live: LiveServer) -> None:
    answers = answers_by_release(live)

    def there_and_back() -> None:
        for release in ("2", "1", "2"):
            swap(live, release)

    check_none_lost_none_mixed(load_while(live, there_and_back), answers)
    assert live.client.get("/languages").json()["model"]["release"] == "2"
    assert live.metric("lrid_model_info", release="2") == 1
    assert live.metric("lrid_model_info", release="1") == 0


def test_sighup_takes_the_newest_of_the_family(store: Path, tmp_path: Path) -> None:
    growing = tmp_path / "store"
    shutil.copytree(store / "lrid_net" / "1", growing / "lrid_net" / "1")
    with LiveServer(tmp_path / "server", model_store=growing, model="lrid_net") as live:
        live.wait_until_ready()
        answers = {"1": [without_times(reply) for reply in ask_all(live.port, REQUESTS)]}

        def renew() -> None:
            shutil.copytree(store / "lrid_net" / "2", growing / "lrid_net" / "2")
            live.process.send_signal(signal.SIGHUP)
            wait_until(lambda: live.client.get("/languages").json()["model"]["release"] == "2")

        sent = load_while(live, renew)
        answers["2"] = [without_times(reply) for reply in ask_all(live.port, REQUESTS)]
        check_none_lost_none_mixed(sent, answers)


# --- releases that must not be served ---------------------------------------------------------------------------------


def unknown_key(folder: Path) -> None:
    edit_manifest(folder, lambda fields: fields.update(autoload="plugin"))


def other_weights(folder: Path) -> None:
    weights = load((folder / WEIGHTS).read_bytes())
    replace_weights(folder, save({name: tensor + 0.05 for name, tensor in weights.items()}))


@pytest.mark.parametrize(("spoil", "named"), [(unknown_key, "autoload"), (other_weights, "golden")])
def test_a_bad_release_is_refused_and_the_old_one_goes_on(
    live: LiveServer, store: Path, spoil: Callable[[Path], None], named: str
) -> None:
    """By its files or by its answers; `test_refused_releases` has every way in which one can be bad."""
    before = without_times(ask_all(live.port, REQUESTS[1:2])[0])
    folder = store / "lrid_net" / "bad"
    shutil.copytree(store / "lrid_net" / "1", folder)
    try:
        edit_manifest(folder, lambda fields: fields.update(release="bad"))
        spoil(folder)
        response = live.client.post("/admin/releases", json={"model": "lrid_net/bad"}, headers=KEY)
        check_problem(response, 422, "release_refused")
        assert named in response.json()["detail"]
    finally:
        shutil.rmtree(folder)
    assert live.ready().status_code == 200
    assert without_times(ask_all(live.port, REQUESTS[1:2])[0]) == before


ELSEWHERE = ("../lrid_net/1", "lrid_net/../../etc", "/etc/passwd", "lrid_net/nowhere", "", "lrid_net/1/x", "a" * 131)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_leads_elsewhere(live: LiveServer, name: str) -> None:
    response = live.client.post("/admin/releases", json={"model": name}, headers=KEY)
    assert response.status_code == 422
    assert response.json()["code"] in ("release_refused", "invalid_option")


def test_one_swap_at_a_time(live: LiveServer) -> None:
    body = json.dumps({"model": "lrid_net/1"}).encode()
    head = "POST /admin/releases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    codes = sorted(reply.status for reply in ask_all(live.port, [request] * 3))
    assert codes == [200, 409, 409]
    assert ask_all(live.port, REQUESTS[:1])[0].status == 200


def test_the_same_bytes_after_a_restart_and_under_load(live: LiveServer, store: Path, tmp_path: Path) -> None:
    swap(live, "1")
    alone = [without_times(reply) for reply in ask_all(live.port, REQUESTS)]
    crowded = [without_times(reply) for reply in ask_all(live.port, REQUESTS * 8)]
    with LiveServer(tmp_path, model_store=store, model="lrid_net/1", max_batch_size=1, decode_workers=1) as other:
        other.wait_until_ready()
        elsewhere = [without_times(reply) for reply in ask_all(other.port, REQUESTS)]
    assert json.dumps(crowded) == json.dumps(alone * 8)
    assert json.dumps(elsewhere) == json.dumps(alone)

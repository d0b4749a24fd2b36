"""A catalogue being identified: songs, clips, bare metadata, and sometimes a request that must be rejected.

    locust -f loadtest/locustfile.py --headless -u 8 -r 8 -t 30s --host http://localhost:8000

Every answer is checked: status, probabilities that sum to 1, and for bad input the code of the error. The exit code is
1 if any was wrong. After a 429 the user waits for Retry-After. Files are made at the start.
"""

import random
import sys
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, between, task

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # locust puts only this folder on the path

from loadtest.mix import Drawn, Mix

MIX = Mix()  # made while this file is imported
gevent.get_hub().loop.update_now()  # or the seconds this took would be missing from -t


class Catalogue(FastHttpUser):
    """One importer: a request, a pause, the next."""

    host = "http://localhost:8000"
    wait_time = between(0.05, 0.5)
    network_timeout = connection_timeout = 90.0
    rng = random.Random()

    @task
    def identify(self) -> None:
        drawn = MIX.draw(self.rng)
        sent = {"data": drawn.body, "headers": {"Content-Type": drawn.content_type}}
        name = drawn.kind if drawn.expected == "200" else f"{drawn.kind}: {drawn.expected}"
        with self.client.post("/identify", name=name, catch_response=True, **sent) as response:
            if response.status_code == 429:
                response.success()  # the server may say so; what matters is that it says when to come back
                gevent.sleep(float(response.headers["Retry-After"]))
            elif wrong := fault(drawn, response):
                response.failure(wrong)
            else:
                response.success()


def fault(drawn: Drawn, response: Any) -> str:
    """What is wrong with the answer; empty if nothing is."""
    body = response.json() if response.text else {}
    came = "200" if response.status_code == 200 else body.get("code", response.status_code)
    if came != drawn.expected or response.status_code != body.get("status", 200):
        return f"expected {drawn.expected}, got {response.status_code}: {response.text[:200]}"
    if came == "200" and abs((total := sum(entry["probability"] for entry in body["languages"])) - 1) > 1e-3:
        return f"probabilities sum to {total}"
    return ""

"""Readiness is a fact about the parts."""

from app.serving.health import Health, Status


def phase(status: Status) -> tuple[str, bool]:
    return status.phase, status.ready


def test_from_starting_to_draining() -> None:
    health = Health()
    assert (phase(health.status()), health.started) == (("starting", False), False)
    assert health.status().reason == "the model is loading"
    health.set_ready()
    assert (phase(health.status()), health.started) == (("ready", True), True)
    assert health.status().reason is None
    health.set_draining()
    assert (phase(health.status()), health.draining) == (("draining", False), True)
    health.set_ready()  # loading ended after the signal came
    assert phase(health.status()) == ("draining", False)


def test_ready_only_while_every_part_is() -> None:
    parts = {"batcher": True, "decoders": True}
    health = Health()
    health.add_check("batcher", lambda: parts["batcher"])
    health.add_check("decoders", lambda: parts["decoders"])
    health.set_ready()
    parts["batcher"] = False
    assert phase(health.status()) == ("ready", False)
    assert health.status().reason == "being started or restarted: batcher"
    assert health.status().checks == {"batcher": False, "decoders": True}
    parts["batcher"] = True
    assert phase(health.status()) == ("ready", True)


def test_a_failure_to_load_stays() -> None:
    health = Health()
    health.set_failed("wrong hash")
    health.set_ready()
    assert (phase(health.status()), health.status().reason) == (("failed", False), "wrong hash")


def test_a_failure_while_draining_changes_nothing() -> None:
    health = Health()
    health.set_draining()
    health.set_failed("cancelled")
    assert phase(health.status()) == ("draining", False)

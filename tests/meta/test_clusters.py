"""Compose and Kubernetes: valid by their own schemas, and in accord with the service and its image."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.meta import test_packaging as image

ROOT = Path(__file__).resolve().parent.parent.parent
OPS = ROOT / "app/ops"
KUBERNETES = OPS / "kubernetes"
SETTINGS = {f"LRID_{name.upper()}" for name in Settings.model_fields}
KUSTOMIZE = next((words for words in (["kustomize", "build"], ["kubectl", "kustomize"]) if shutil.which(words[0])), None)


def compose() -> str | None:
    """`docker-compose` of version 2, alone or as Debian's plugin of docker."""
    found = shutil.which("docker-compose", path=f"{os.environ['PATH']}:/usr/libexec/docker/cli-plugins")
    if found is None:
        return None
    version = subprocess.run([found, "version", "--short"], capture_output=True, text=True, check=False).stdout
    return found if version and not version.startswith("1.") else None


COMPOSE = compose()


def documents() -> list[dict[str, Any]]:
    """All that kustomize applies, autoscaler included."""
    files = [file for file in sorted(KUBERNETES.rglob("*.yaml")) if file.name != "kustomization.yaml"]
    return [document for file in files for document in yaml.safe_load_all(file.read_text())]


def one(kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents() if document["kind"] == kind)
    return found


def container() -> dict[str, Any]:
    found: dict[str, Any] = deployment()["spec"]["template"]["spec"]["containers"][0]
    return found


def accepted(command: list[str], text: str = "") -> str:
    """What a tool prints, given `text`, if it finds nothing wrong."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["serve.yaml", "around.yaml"])
def test_kubernetes_takes_it(name: str) -> None:
    accepted([sys.executable, "-m", "kubernetes_validate", "--strict", str(KUBERNETES / "base" / name)])


@pytest.mark.skipif(KUSTOMIZE is None, reason="no kustomize and no kubectl here")
@pytest.mark.parametrize(("folder", "replicas", "scaled"), [("base", 2, False), ("autoscaled", None, True)])
def test_kustomize_builds_it_and_kubernetes_takes_that(folder: str, replicas: int | None, scaled: bool) -> None:
    assert KUSTOMIZE is not None
    built = accepted([*KUSTOMIZE, str(KUBERNETES / folder)])
    accepted([sys.executable, "-m", "kubernetes_validate", "--strict", "-"], built)
    found = {document["kind"]: document for document in yaml.safe_load_all(built)}
    assert ("ScaledObject" in found) == scaled
    assert found.keys() >= {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    assert found["Deployment"]["spec"].get("replicas") == replicas  # the autoscaler's, where there is one


def test_compose_files_schema_takes_it() -> None:
    accepted(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(OPS / "compose.yaml")]
    )


@pytest.mark.skipif(COMPOSE is None, reason="no docker-compose here: Debian 13 has version 2")
def test_compose_reads_it() -> None:
    assert COMPOSE is not None
    read = yaml.safe_load(accepted([COMPOSE, "-f", str(OPS / "compose.yaml"), "--profile", "watch", "config"]))
    assert read["services"].keys() == {"lrid", "prometheus", "grafana"}
    named = {config["source"] for service in read["services"].values() for config in service.get("configs", [])}
    assert named == read["configs"].keys()
    mounted = [Path(volume["source"]) for service in read["services"].values() for volume in service.get("volumes", [])]
    assert mounted
    assert all(path.is_file() for path in mounted)


def test_kustomize_finds_its_files() -> None:
    named = set()
    for file in KUBERNETES.rglob("kustomization.yaml"):
        kustomization = yaml.safe_load(file.read_text())
        assert set(kustomization) <= {"apiVersion", "kind", "resources", "patches"}
        named |= {(file.parent / resource).resolve() for resource in kustomization["resources"]}
    files = {file.resolve() for file in KUBERNETES.rglob("*.yaml") if file.name != "kustomization.yaml"}
    assert named == files | {KUBERNETES / "base"}


def test_everything_selects_the_pods() -> None:
    labels = deployment()["spec"]["template"]["metadata"]["labels"]
    assert deployment()["spec"]["selector"]["matchLabels"] == labels
    assert one("Service")["spec"]["selector"] == labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert one("ScaledObject")["spec"]["scaleTargetRef"]["name"] == deployment()["metadata"]["name"]


def test_a_drain_leaves_a_replica() -> None:
    least = one("PodDisruptionBudget")["spec"]["minAvailable"]
    assert least < deployment()["spec"]["replicas"]
    assert least < one("ScaledObject")["spec"]["minReplicaCount"]


def test_the_network_opens_ports_that_exist_and_metrics_to_prometheus_alone() -> None:
    ports = {port["name"]: str(port["containerPort"]) for port in container()["ports"]}
    policy = one("NetworkPolicy")["spec"]
    opened = {rule["ports"][0]["port"]: rule.get("from") for rule in policy["ingress"]}
    assert opened.keys() == ports.keys()
    assert opened["http"] is None
    assert opened["admin"]
    assert policy["egress"] == []
    environment = {item["name"]: item["value"] for item in container()["env"]}
    assert environment["LRID_ADMIN_PORT"] == ports["admin"]
    assert deployment()["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == ports["admin"]


def test_the_autoscaler_asks_for_a_metric_that_exists_and_acts_before_the_queue_is_full() -> None:
    queue, cpu = one("ScaledObject")["spec"]["triggers"]
    assert "lrid_queue_audio_seconds" in queue["metadata"]["query"]
    assert float(queue["metadata"]["threshold"]) < Settings.model_fields["queue_max_audio_seconds"].default / 10
    assert cpu["type"] == "cpu"
    assert "cpu" in container()["resources"]["requests"]  # utilisation is a share of it


def deployment() -> dict[str, Any]:
    return one("Deployment")


def test_kubernetes_asks_endpoints_that_exist() -> None:
    container = deployment()["spec"]["template"]["spec"]["containers"][0]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/health/startup", "readiness": "/health/ready", "liveness": "/health/live"}
    routes = (ROOT / "app/http/routes.py").read_text()
    assert all(f'"{path}"' in routes for path in paths.values())


def test_kubernetes_waits_for_the_drain() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    environment = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    assert set(environment) <= SETTINGS
    drain = float(environment["LRID_DRAIN_DELAY_SECONDS"]) + float(environment["LRID_DRAIN_TIMEOUT_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > drain


def test_kubernetes_grants_nothing_that_is_not_needed() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert str(pod["securityContext"]["runAsUser"]) == image.last_stage()["USER"][-1].split(":")[0]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert image.image_environment()["TMPDIR"] in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert not pod["enableServiceLinks"]  # else a Service called lrid would set LRID_PORT


def test_compose_waits_for_the_drain_and_watches_the_service() -> None:
    compose = yaml.safe_load((OPS / "compose.yaml").read_text())
    service = compose["services"]["lrid"]
    assert float(service["stop_grace_period"].removesuffix("s")) > Settings.model_fields["drain_timeout_seconds"].default
    assert service["read_only"]
    assert (OPS / service["build"]["context"]).resolve() == ROOT
    prometheus = yaml.safe_load(compose["configs"]["prometheus"]["content"])
    job = prometheus["scrape_configs"][0]
    assert f'job="{job["job_name"]}"' in (OPS / "alerts.yml").read_text()
    assert job["static_configs"][0]["targets"] == [f"lrid:{service['environment']['LRID_ADMIN_PORT']}"]
    assert set(service["environment"]) <= SETTINGS

"""What is shipped around the code: image, operations files, page, CI, licence. Parsed, as nothing here can run them."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from app.errors import public_errors
from app.serving.metrics import STAGES, Metrics
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
OPS = ROOT / "app/ops"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETTINGS = {f"LRID_{name.upper()}" for name in Settings.model_fields}


# --- image ------------------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, arguments), continued lines joined, comments dropped."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


def last_stage() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word, rest in instructions():
        if word == "FROM":
            found = {}
        found.setdefault(word, []).append(rest)
    return found


def image_environment() -> dict[str, str]:
    return dict(item.split("=", 1) for line in last_stage()["ENV"] for item in shlex.split(line))


def test_image_is_built_in_two_stages() -> None:
    stages = [rest for word, rest in instructions() if word == "FROM"]
    assert len(stages) == 2
    assert all(stage.startswith("python:3.") and "-slim" in stage for stage in stages)
    assert any(line.startswith("--from=builder") for line in last_stage()["COPY"])


def test_image_starts_the_same_command_as_the_readme() -> None:
    assert json.loads(last_stage()["CMD"][0]) == ["lrid", "serve"]
    assert PROJECT["project"]["scripts"]["lrid"] == "app.cli.main:main"


def test_image_does_not_run_as_root() -> None:
    user = last_stage()["USER"][-1].split(":")[0]
    assert int(user) > 0
    assert f"--uid {user}" in " ".join(last_stage()["RUN"])


def test_image_knows_when_it_is_ready() -> None:
    options, _, command = last_stage()["HEALTHCHECK"][0].partition(" CMD ")
    assert "--start-period=" in options
    program, flag, code = json.loads(command)
    assert (program, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    assert "/health/ready" in code
    assert "LRID_PORT" in code


def test_image_serves_the_network_on_the_port_it_exposes() -> None:
    environment = image_environment()
    assert environment["LRID_HOST"] == "0.0.0.0"
    assert last_stage()["EXPOSE"] == [environment["LRID_PORT"]]
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert {name for name in environment if name.startswith("LRID_")} <= SETTINGS


def test_image_has_the_models_where_it_looks_for_them() -> None:
    """The code is installed, so that the default beside the code would be inside site-packages."""
    destinations = {line.split()[0]: line.split()[1] for line in last_stage()["COPY"] if "--from" not in line}
    assert destinations["model_store"] == image_environment()["LRID_MODEL_STORE"]


def test_image_writes_nothing_outside_of_its_temporary_folder() -> None:
    environment = image_environment()
    assert environment["TMPDIR"] == environment["HOME"] == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_what_the_image_copies_is_not_ignored() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = {name for word, rest in instructions() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]}
    assert copied == kept


# --- package ----------------------------------------------------------------------------------------------------------


def test_every_file_that_is_no_code_is_package_data() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["app"]
    listed = subprocess.run(["git", "ls-files", "app"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    files = [name.removeprefix("app/") for name in listed if not name.endswith(".py")]
    assert files
    assert [name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []


def test_licence_is_what_the_package_says() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_version_has_its_changes() -> None:
    version = PROJECT["project"]["version"]
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
    for name in ("kubernetes.yaml", "compose.yaml"):
        assert f"lrid-serve:{version}" in (OPS / name).read_text()


# --- continuous integration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "install", "check", "test"])
def test_chores_are_scripts(name: str) -> None:
    script = ROOT / ".ci" / name
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script.read_text()


def test_ci_runs_every_chore_once() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    steps = [".ci/install", ".ci/check", ".ci/test"]
    assert [line for line in lines if line in steps] == steps


# --- operations -------------------------------------------------------------------------------------------------------


def exposed_names() -> set[str]:
    """Every name that can be queried: samples, histograms' parts included."""
    found = set()
    for family in Metrics(CollectorRegistry()).registry.collect():
        if family.type == "histogram":
            found |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            found.add(family.name + ("_total" if family.type == "counter" else ""))
    return found


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OPS / "dashboard.json").read_text())
    return found


def queries() -> list[str]:
    return [rule["expr"] for rule in alert_rules()] + [
        target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]
    ]


def test_queries_name_metrics_that_exist() -> None:
    named = {name for query in queries() for name in re.findall(r"\blrid_[a-z_]+", query)}
    assert named
    assert named - exposed_names() == set()


def test_the_dashboard_shows_every_metric() -> None:
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"\blrid_[a-z_]+", expression)}
    unseen = [
        family.name
        for family in Metrics(CollectorRegistry()).registry.collect()
        if not any(name.startswith(family.name) for name in shown)
    ]
    assert unseen == []


def test_queries_name_outcomes_and_stages_that_exist() -> None:
    text = "\n".join(queries())
    codes = {code for group in re.findall(r'(?:outcome|reason)=~"([^"]+)"', text) for code in group.split("|")}
    assert codes
    assert codes - public_errors().keys() == set()
    assert set(re.findall(r'stage!?="(\w+)"', text)) <= set(STAGES)


def test_alerts_say_what_they_mean() -> None:
    for rule in alert_rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells))
    assert max(p["x"] + p["w"] for p in places) <= 24


def deployment() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((OPS / "kubernetes.yaml").read_text()))
    return next(document for document in documents if document["kind"] == "Deployment")


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
    assert str(pod["securityContext"]["runAsUser"]) == last_stage()["USER"][-1].split(":")[0]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert image_environment()["TMPDIR"] in [mount["mountPath"] for mount in container["volumeMounts"]]
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
    assert job["static_configs"][0]["targets"] == [f"lrid:{image_environment()['LRID_PORT']}"]


# --- the page ---------------------------------------------------------------------------------------------------------

WEB = ROOT / "app/web"
PAGE = (WEB / "index.html").read_text(encoding="utf-8")
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(WEB.glob("*.js"))}
MARKUP_FROM_DATA = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\("


class Elements(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements() -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(PAGE)
    return parser.found


def test_the_page_loads_nothing_from_elsewhere() -> None:
    places = [
        value for _, attributes in elements() for name, value in attributes.items() if value and name in {"src", "href"}
    ]
    assert [place for place in places if place.startswith(("http:", "https:", "//"))] == []
    style = (WEB / "page.css").read_text(encoding="utf-8")
    assert re.findall(r"@import|url\(", PAGE + style) == []
    policy = next(str(a["content"]) for tag, a in elements() if tag == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy


def test_the_page_has_all_its_parts() -> None:
    """What the markup and the scripts name is there, and nothing else lies beside it."""
    named = {str(a.get("href") or a.get("src")) for tag, a in elements() if tag == "script" or a.get("rel") == "stylesheet"}
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert {name.removeprefix("web/") for name in named} | imported == {*SCRIPTS, "page.css"}


def test_the_scripts_find_what_they_look_for() -> None:
    ids = {attributes["id"] for _, attributes in elements() if "id" in attributes}
    assert {name for text in SCRIPTS.values() for name in re.findall(r'\$\("(\w+)"\)', text)} - ids == set()


def test_every_input_has_a_label() -> None:
    depth, bare = 0, []
    for line in re.findall(r"</?label|<(?:input|textarea)[^>]*>", PAGE):
        depth += {"<label": 1, "</label": -1}.get(line, 0)
        if line.startswith(("<input", "<textarea")) and not depth:
            bare.append(line)
    assert bare == []
    assert any(tag == "html" and attributes.get("lang") for tag, attributes in elements())


def test_the_page_never_writes_markup_from_data() -> None:
    assert [name for name, text in SCRIPTS.items() if re.search(MARKUP_FROM_DATA, text)] == []


def test_the_page_is_small() -> None:
    assert [name for name, text in {**SCRIPTS, "index.html": PAGE}.items() if len(text.splitlines()) >= 300] == []

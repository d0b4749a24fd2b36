"""What stands in app/ops for Prometheus and Grafana: it names what exists, and their own tools accept it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.errors import public_errors
from app.serving.metrics import STAGES, Metrics

HERE = Path(__file__).resolve().parent
OPS = HERE.parent.parent / "app/ops"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool here: it is in Debian's package prometheus")


def exposed_names() -> set[str]:
    """Every name that can be queried: samples, histograms' parts included."""
    found = set()
    for family in Metrics().registry.collect():
        if family.type == "histogram":
            found |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            found.add(family.name + ("_total" if family.type == "counter" else ""))
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def alert_rules() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((OPS / "dashboard.json").read_text())
    return found


def queries() -> list[str]:
    return [rule["expr"] for rule in rules()] + [
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
        family.name for family in Metrics().registry.collect() if not any(name.startswith(family.name) for name in shown)
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


def promtool(*arguments: object) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def compose_config(name: str) -> str:
    content: str = yaml.safe_load((OPS / "compose.yaml").read_text())["configs"][name]["content"]
    return content


@needs_promtool
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(compose_config("prometheus").replace("/etc/prometheus/alerts.yml", str(OPS / "alerts.yml")))
    promtool("check", "config", config)


@needs_promtool
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    shutil.copy(OPS / "alerts.yml", tmp_path)
    shutil.copy(HERE / "alerts_test.yml", tmp_path)
    promtool("test", "rules", tmp_path / "alerts_test.yml")


def test_every_alert_has_been_seen_to_fire() -> None:
    tested = yaml.safe_load((HERE / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert {rule["alert"] for rule in alert_rules()} == fired


def test_grafana_finds_its_dashboard_and_its_data() -> None:
    grafana = yaml.safe_load((OPS / "compose.yaml").read_text())["services"]["grafana"]
    targets = {config["source"]: config["target"] for config in grafana["configs"]}
    folder = "/etc/grafana/provisioning"
    assert targets["grafana_sources"].startswith(f"{folder}/datasources/")
    assert targets["grafana_dashboards"].startswith(f"{folder}/dashboards/")
    source = yaml.safe_load(compose_config("grafana_sources"))["datasources"][0]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert dashboard()["templating"]["list"][0]["query"] == source["type"]  # its variable takes the default one
    provider = yaml.safe_load(compose_config("grafana_dashboards"))["providers"][0]
    mounted = next(volume.split(":") for volume in grafana["volumes"] if "dashboard.json" in volume)
    assert (OPS / mounted[0]).is_file()
    assert str(Path(mounted[1]).parent) == provider["options"]["path"]

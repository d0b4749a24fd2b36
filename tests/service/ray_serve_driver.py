"""Ray Serve for `test_ray_serve.py`: deploys each YAML file that a line of input names, as `serve run` does."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.schema import ServeDeploySchema

SETTLED = ("RUNNING", "DEPLOY_FAILED", "UNHEALTHY")
DEPLOY_SECONDS = 600.0  # for a busy machine: Ray starts a replica several times before it gives up


def deploy(client: Any, config: ServeDeploySchema) -> dict[str, str]:
    client.deploy_apps(config)
    until = time.monotonic() + DEPLOY_SECONDS
    while time.monotonic() < until:
        time.sleep(0.5)
        status = serve.status().applications.get("lrid")
        if status is not None and status.status in SETTLED:
            break
    return {"status": status.status, "message": f"{status.message} {status.deployments}"}


def main() -> None:
    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _metrics_export_port=int(sys.argv[1]),
        log_to_driver=False,
    )
    client = None
    for line in sys.stdin:
        config = ServeDeploySchema.model_validate(yaml.safe_load(Path(line.strip()).read_text(encoding="utf-8")))
        client = client or serve_start(http_options=config.http_options.model_dump())
        print(json.dumps(deploy(client, config)), flush=True)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()

"""What is shipped around the code: image, operations files, page, CI, licence. Parsed, as nothing here can run them."""

import fnmatch
import json
import os
import re
import shlex
import subprocess
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

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


def test_the_cpu_image_takes_the_versions_that_the_package_wants() -> None:
    (install,) = (rest for word, rest in instructions() if word == "RUN" and "TORCH_INDEX" in rest)
    wanted = {name for name in PROJECT["project"]["dependencies"] if name.startswith("torch")}
    assert set(re.findall(r"'([^']+)'", install)) == wanted
    assert ("ARG", "TORCH_INDEX=") in instructions()  # empty: torch as the package index has it, with CUDA


def test_the_image_starts_with_loops_that_are_compiled(tmp_path: Path) -> None:
    """Its entry point, with other folders: caches are copied, and the command takes the shell's place."""
    kept, temporary = tmp_path / "numba", tmp_path / "tmp"
    kept.mkdir()
    temporary.mkdir()
    (kept / "compiled.nbc").write_bytes(b"x")
    (warm,) = (rest for rest in last_stage()["RUN"] if "NUMBA_CACHE_DIR=/opt/lrid/numba lrid identify /tmp/tone.wav" in rest)
    assert subprocess.run(["sh", "-n", "-c", warm], check=False).returncode == 0
    entry = [part.replace("/opt/lrid/numba", str(kept)) for part in json.loads(last_stage()["ENTRYPOINT"][0])]
    entry = [part.replace("/tmp/;", f"{temporary};") for part in entry]
    done = subprocess.run([*entry, "echo", "a b", "$HOME"], capture_output=True, text=True, check=True)
    assert done.stdout == "a b $HOME\n"
    assert (temporary / Path(image_environment()["NUMBA_CACHE_DIR"]).name / "compiled.nbc").is_file()


def test_what_the_image_copies_is_not_ignored() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    copied = {name for word, rest in instructions() if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]}
    assert copied == kept
    assert [name for name in copied if not (ROOT / name).exists()] == []


# --- package ----------------------------------------------------------------------------------------------------------


def test_every_file_that_is_no_code_is_package_data() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["app"]
    listed = subprocess.run(["git", "ls-files", "app"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout")
    files = [name.removeprefix("app/") for name in listed if not name.endswith(".py")]
    assert files
    assert [name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []


def test_the_wheel_holds_the_default_release_and_little_else() -> None:
    """It is installed as `model_store` beside `app`, which is where settings look; pip wheel packs what is listed here."""
    setuptools = PROJECT["tool"]["setuptools"]
    default = Settings.model_fields["model"].default
    assert setuptools["package-data"]["model_store"] == [f"{default}/*"]
    assert "model_store*" in setuptools["packages"]["find"]["include"]
    assert Settings.model_fields["model_store"].default == ROOT / "model_store"
    assert sum(path.stat().st_size for path in (ROOT / "model_store" / default).iterdir()) < 95e6


def test_plugins_of_beets_are_installed_where_it_looks() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    folder = ROOT / setuptools["package-dir"]["beetsplug"]
    assert setuptools["py-modules"] == [f"beetsplug.{path.stem}" for path in sorted(folder.glob("*.py"))]
    assert not (folder / "__init__.py").exists()  # the namespace is shared with beets
    stub = next(line for word, line in instructions() if word == "RUN" and "mkdir" in line)
    assert setuptools["package-dir"]["beetsplug"] in stub  # the image's first build has no code yet


def test_licence_is_what_the_package_says() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_version_has_its_changes() -> None:
    version = PROJECT["project"]["version"]
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
    for name in ("kubernetes/base/serve.yaml", "compose.yaml"):
        assert f"lrid-serve:{version}" in (OPS / name).read_text()


# --- continuous integration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "install", "supply", "check", "test", "test_ray"])
def test_chores_are_scripts(name: str) -> None:
    script = ROOT / ".ci" / name
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script.read_text()


def test_ci_runs_every_chore_once() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    steps = [".ci/install", ".ci/check", ".ci/test", ".ci/test_ray"]
    assert [line for line in lines if line in steps] == steps


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

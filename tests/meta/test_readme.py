"""The README keeps up with the code: settings, errors, metrics, commands, endpoints. And what it names exists."""

import re
from pathlib import Path

import pytest
import typer

from app.catalogue import errors as catalogue_errors
from app.cli import main as cli
from app.errors import LridError, public_errors
from app.families.store import families, list_releases, read_manifest, release_folder
from app.http.options import Options
from app.main import create_app
from app.serving.metrics import Metrics
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
HTTP = (ROOT / "app/http/README.md").read_text(encoding="utf-8")
CATALOGUE = (ROOT / "app/catalogue/README.md").read_text(encoding="utf-8")
STORE = (ROOT / "model_store/README.md").read_text(encoding="utf-8")
OPS = (ROOT / "app/ops/README.md").read_text(encoding="utf-8")
COMMANDS = ("python -m pip install -e . && lrid serve", "python -m pip install -e '.[test]' && pytest")
OTHER_VARIABLES = {"LRID_DATA"}  # read by training, no setting of the server


def section(title: str, page: str = README) -> str:
    """The text under a heading of the second level."""
    return page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(title: str, page: str = README) -> list[list[str]]:
    """Cells of the first table of a section, without its two head lines."""
    lines = [line for line in section(title, page).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def shown(default: object) -> str:
    """A setting's default as the table has it."""
    if default in (None, "", ()):
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_both_commands_stand_as_they_are() -> None:
    lines = README.splitlines()
    assert [command for command in COMMANDS if command not in lines] == []


def test_every_setting_with_its_default() -> None:
    expected = {f"`LRID_{name.upper()}`": shown(field.default) for name, field in Settings.model_fields.items()}
    expected["`LRID_MODEL_STORE`"] = "`model_store`"
    assert {name: default for name, default, _ in rows("Settings", OPS)} == expected


def test_no_setting_that_does_not_exist() -> None:
    known = {f"LRID_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    assert set(re.findall(r"LRID_[A-Z_]+[A-Z]", README + OPS)) - known == set()


def test_every_error_code_with_its_status() -> None:
    ours = {code: error for code, error in public_errors().items() if error.__module__.startswith("app.")}
    own = {code: error for code, error in ours.items() if error.__module__ == catalogue_errors.__name__}
    expected = {f"`{code}`": str(error.status) for code, error in ours.items() if code not in own}
    assert {code: status for status, code, *_ in rows("Errors", HTTP)} == expected
    assert {f"`{code}`" for code in own} == {code for code, *_ in rows("Errors", CATALOGUE)}


def test_every_error_says_what_to_do() -> None:
    ours = {f"`{code}`": error for code, error in public_errors().items() if error.__module__.startswith("app.")}
    named = [*rows("Errors", HTTP), *(["", *row] for row in rows("Errors", CATALOGUE))]
    wrong = [code for _, code, when, remedy in named if not when.startswith(ours[code].title) or not remedy]
    assert wrong == []
    assert [code for code, error in ours.items() if error is not LridError and error.title == LridError.title] == []


def metric_names() -> dict[str, str]:
    """Name as it is exposed → type."""
    families_ = Metrics().registry.collect()
    return {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families_}


def test_every_metric_with_its_type() -> None:
    assert {name.strip("`"): kind for name, kind, *_ in rows("Metrics", OPS)} == metric_names()


def test_no_metric_that_does_not_exist() -> None:
    named = set(re.findall(r"\blrid_[a-z_]+", README + OPS))
    assert named - metric_names().keys() - families().keys() == set()


def commands(group: typer.Typer, path: str) -> set[str]:
    found = {f"{path} {command.name or getattr(command.callback, '__name__', '')}" for command in group.registered_commands}
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        found |= commands(inner.typer_instance, f"{path} {inner.name}")
    return found


def test_every_command_and_none_that_does_not_exist() -> None:
    existing = commands(cli.app, "lrid")
    code = re.findall(r"```sh\n(.*?)```", README, re.DOTALL) + re.findall(r"`([^`\n]+)`", README)
    called = {f"lrid {word}" for text in code for word in re.findall(r"\blrid ([a-z]+(?: [a-z0-9]+)?)", text)}
    groups = {f"lrid {group.name}" for group in cli.app.registered_groups}
    named = {" ".join(call.split()[: 3 if " ".join(call.split()[:2]) in groups else 2]) for call in called}
    assert existing - named == set()
    assert named - existing - groups == set()


def test_every_endpoint(tmp_path: Path) -> None:
    paths = create_app(Settings(model_store=tmp_path)).openapi()["paths"]
    assert [path for path in paths if f"{path}`" not in HTTP] == []


def test_every_option_of_a_request() -> None:
    assert [name for name in Options.model_fields if f"| `{name}` |" not in HTTP] == []


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:app|tests|loadtest|model_store|\.ci)/[\w./]*)`", README))))
def test_every_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


PAGES = [page for part in ("app", "loadtest", "model_store", "tests") for page in (ROOT / part).rglob("*.md")]
PAGES += [ROOT / "README.md", ROOT / "CHANGELOG.md"]


def anchors(page: str) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_path_of_a_page_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{file}#{anchor}"
    named = re.findall(r"`((?:app|tests|loadtest|model_store|\.ci)/[\w./]*)[`:]", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


ACCURACY_HEAD = (
    "| rows | given | n | accuracy | balanced | macro F1 | weighted F1 | right when answered | answered |",
    "|---|---|---|---|---|---|---|---|---|",
)


def accuracy_table(store: Path, reference: str) -> list[str]:
    """The figures of a release, as the store's page has them."""
    manifest = read_manifest(release_folder(store, reference))
    sets = dict.fromkeys(name for by_set in manifest.metrics.values() for name in by_set)
    lines = list(ACCURACY_HEAD)
    for name in sets:
        for mode, title in (("both", "both"), ("audio_only", "audio only"), ("text_only", "text only")):
            if (m := manifest.metrics.get(mode, {}).get(name)) is None:
                continue
            figures = [m[key] for key in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1")]
            figures += [m["precision_answered"], m["coverage"]]
            lines.append(f"| {name} | {title} | {m['rows']:,} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    return lines


@pytest.mark.parametrize("reference", [*list_releases(ROOT / "model_store"), Settings.model_fields["model"].default])
def test_accuracy_is_what_the_releases_say(reference: str) -> None:
    expected = accuracy_table(ROOT / "model_store", reference)
    assert [line for line in expected if line not in STORE.splitlines()] == []


@pytest.mark.parametrize("folder", ["audio", "catalogue", "client", "http", "serving"])
def test_the_page_of_a_folder_names_each_of_its_modules(folder: str) -> None:
    page = (ROOT / "app" / folder / "README.md").read_text(encoding="utf-8")
    modules = [path.stem for path in (ROOT / "app" / folder).glob("*.py") if path.stem != "__init__"]
    assert [name for name in modules if not re.search(rf"`{name}(\.py)?[`.]", page)] == []


def test_every_threat_names_tests_that_exist() -> None:
    lines = [line for line in (ROOT / "app/ops/SECURITY.md").read_text().splitlines() if line.startswith("|")][2:]
    tests = [re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", line) for line in lines]
    assert lines
    assert all(tests)
    missing = [pair for some in tests for pair in some if f"def {pair[1]}" not in (ROOT / pair[0]).read_text()]
    assert missing == []


def test_nothing_was_left_to_be_filled_in() -> None:
    assert re.findall(r"GAP\([^)]*\)|TODO|TBD", README) == []


@pytest.mark.parametrize("module", sorted(set(re.findall(r"\bloadtest\.([a-z]+)", README)) - {"throughput"}))
def test_every_measurement_exists(module: str) -> None:
    assert (ROOT / "loadtest" / f"{module}.py").is_file() or (ROOT / "loadtest" / module / "__main__.py").is_file()

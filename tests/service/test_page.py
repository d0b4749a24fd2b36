"""The page in a real browser: Debian's Chromium, without a screen."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mutagen import id3

from tests.service.live import PATIENCE_SECONDS, LiveServer
from tests.voices import write_reading_voice

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (extra `test`)")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium; .ci/install installs it as root")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of this module only: while it is open, the thread runs an event loop."""
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Visit:
    """A visitor of one server; every request to another place, and every error in the console, is kept."""

    def __init__(self, browser: Browser, live: LiveServer, **options: Any) -> None:
        self.url = str(live.client.base_url)
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_SECONDS * 1000)
        self.page = self.context.new_page()
        self.elsewhere: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", self._requested)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.elsewhere.append(request.url)

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.url + path)
        return self.page

    def saved(self) -> list[dict[str, str]]:
        """Rows of the CSV that the page gives."""
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Download CSV").click()
        assert download.value.suggested_filename == "languages.csv"
        text = Path(download.value.path()).read_text(encoding="utf-8-sig")
        return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def visit(browser: Browser, server: LiveServer) -> Iterator[Visit]:
    visitor = Visit(browser, server)
    yield visitor
    visitor.context.close()
    assert visitor.elsewhere == []
    assert [error for error in visitor.errors if "status of 4" not in error] == []  # Chromium notes refusals itself


@pytest.fixture(scope="module")
def tagged(song: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("songs") / "tagged.mp3"
    path.write_bytes(song)
    untyped: Any = id3
    tags = untyped.ID3()
    tags.add(untyped.TIT2(encoding=3, text="Non, je ne regrette rien"))
    tags.add(untyped.TPE1(encoding=3, text="Chanteuse de Paris"))
    tags.save(path)
    return path


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("broken") / "broken.mp3"
    path.write_bytes(b"not audio at all")
    return path


def test_one_file_with_its_waveform_timeline_and_tags(visit: Visit, tagged: Path) -> None:
    page = visit.open()
    page.locator("#file").set_input_files(tagged)
    page.get_by_role("button", name="Identify", exact=True).click()
    page.wait_for_selector("#answer")
    page.wait_for_selector("canvas:not([hidden])")
    assert page.locator(".span").count() == 3  # 70 s in windows of 30 s
    assert "from the file's tags" in page.locator("#used").inner_text()
    assert "alone" in page.locator("#why").inner_text()
    page.locator(".span").first.focus()
    page.keyboard.press("ArrowRight")
    focused = page.locator(".span:focus")
    assert focused.get_attribute("aria-label") == page.locator(".said").inner_text()
    assert "0:30" in page.locator(".said").inner_text() or "0:20" in page.locator(".said").inner_text()
    page.locator(".span").nth(2).hover()
    page.wait_for_selector(".span:nth-child(3).on")
    assert page.locator(".said").inner_text() == page.locator(".span").nth(2).get_attribute("aria-label")
    form = page.locator("#tags")
    assert form.get_by_label("Title").input_value() == "Non, je ne regrette rien"
    form.get_by_label("Artist").fill("Sängerin aus Berlin")
    form.get_by_role("button").click()
    page.wait_for_selector("#used:not(:has-text('tags'))")
    assert "Read artist and title" in page.locator("#used").inner_text()
    assert page.locator("#tags").get_by_label("Artist").input_value() == "Sängerin aus Berlin"


def test_the_code_is_copied(visit: Visit) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.open()
    page.get_by_role("button", name="La vie en rose").click()
    page.get_by_role("button", name="Copy the code").click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("() => navigator.clipboard.readText()") == page.locator("#answer code").inner_text().split(" · ")[0]


def test_several_files_dropped_fill_a_table_that_can_be_saved(visit: Visit, clip: bytes, broken: Path) -> None:
    page = visit.open()
    page.locator("#timeline").uncheck()
    dropped = page.evaluate_handle(
        """([clip, broken]) => {
             const files = new DataTransfer(), bytes = text => Uint8Array.from(text, c => c.charCodeAt(0));
             for (const name of ["one.wav", "=two.wav", "three, four.wav"]) files.items.add(new File([bytes(clip)], name));
             files.items.add(new File([bytes(broken)], "broken.mp3"));
             return files; }""",
        [clip.decode("latin-1"), broken.read_bytes().decode("latin-1")],
    )
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    assert page.locator("#name").inner_text() == "4 files"
    page.get_by_role("button", name="Identify", exact=True).click()
    page.get_by_text("3 answered, 1 failed.").wait_for()
    assert page.locator("#rows tr").nth(3).inner_text().startswith("broken.mp3")
    assert "not audio we can read" in page.locator("#rows tr").nth(3).inner_text()
    rows = visit.saved()
    assert [row["song"] for row in rows] == ["one.wav", "'=two.wav", "three, four.wav", "broken.mp3"]
    assert all(row["language"] and float(row["probability"]) for row in rows[:3])
    assert rows[3]["error"] == "audio_unknown_format"
    page.get_by_role("button", name="three, four.wav").click()
    assert page.locator("#result").evaluate("node => node === document.activeElement")
    assert "three, four.wav" in page.locator("#result").inner_text()


def test_a_refused_file_says_what_to_do(visit: Visit, broken: Path) -> None:
    page = visit.open()
    page.locator("#file").set_input_files(broken)
    page.get_by_role("button", name="Identify", exact=True).click()
    problem = page.get_by_role("alert")
    problem.get_by_text("This is not audio we can read").wait_for()
    assert "Send WAV" in problem.inner_text()
    assert "audio_unknown_format" in problem.inner_text()
    assert not page.locator("#result").is_visible()


def test_a_list_of_names(visit: Visit) -> None:
    page = visit.open()
    page.get_by_text("Paste a list of names").click()
    lines = ["Edith Piaf - La vie en rose", "Tom Jobim\tGarota de Ipanema\tGetz/Gilberto", "Imagine", "12 - 345"]
    lines += [f"Sänger {n} – Ein Lied {n}" for n in range(596)]
    page.locator("#lines").fill("\n".join(lines))
    page.get_by_role("button", name="Identify the list").click()
    page.get_by_text("599 answered, 1 failed.").wait_for()
    assert page.locator("#rows tr").count() == 500
    assert "all 600" in page.locator("#more").inner_text()
    rows = visit.saved()
    assert len(rows) == 600
    assert [rows[1][name] for name in ("artist", "title", "album")] == ["Tom Jobim", "Garota de Ipanema", "Getz/Gilberto"]
    assert [rows[2][name] for name in ("artist", "title")] == ["", "Imagine"]
    assert rows[3]["error"] == "nothing_usable"
    assert rows[599]["title"] == "Ein Lied 595"


def test_a_server_with_keys_asks_for_one(browser: Browser, tiny_store: Path, tmp_path: Path) -> None:
    with LiveServer(tmp_path, model_store=tiny_store, api_keys="secret") as live:
        live.wait_until_ready()
        visitor = Visit(browser, live)
        page = visitor.open()
        page.get_by_label("Key").fill("secret")
        page.get_by_label("Title", exact=True).fill("La vie en rose")
        page.get_by_role("button", name="Identify", exact=True).click()
        page.wait_for_selector("#answer")
        page.get_by_label("Key").fill("wrong")
        page.get_by_role("button", name="Identify", exact=True).click()
        page.get_by_role("alert").get_by_text("A key is needed").wait_for()
        visitor.context.close()


def test_a_server_that_left_is_said(browser: Browser, server: LiveServer) -> None:
    visitor = Visit(browser, server)
    page = visitor.open()
    visitor.context.set_offline(True)
    page.get_by_role("button", name="Garota de Ipanema").click()
    page.get_by_role("alert").get_by_text("No answer").wait_for()
    visitor.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Browser, server: LiveServer, tagged: Path, scheme: str) -> None:
    visitor = Visit(browser, server, viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    page = visitor.open()
    page.locator("#file").set_input_files(tagged)
    page.get_by_role("button", name="Identify", exact=True).click()
    page.wait_for_selector("#answer")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(251, 250, 248)" if scheme == "light" else "rgb(22, 22, 21)")
    visitor.context.close()


def test_where_nothing_is_sung_the_page_says_so_and_names_no_language(
    visit: Visit, server: LiveServer, tagged: Path
) -> None:
    """By an answer of the server, changed to what a release says that can tell what is not sung."""
    asked = {"explain": "true", "timeline": "true"}
    answer = server.identify(files={"audio": tagged.read_bytes()}, data=asked).json()
    answer |= {"language": "zxx", "probability": 0.97}
    answer["modalities"]["audio"]["sung_windows"] = 1
    visit.page.route(re.compile("/identify"), lambda route: route.fulfill(json=answer))
    page = visit.open()
    page.locator("#file").set_input_files(tagged)
    page.get_by_role("button", name="Identify", exact=True).click()
    page.wait_for_selector("#answer")
    said = page.locator("#why").inner_text().replace("\xa0", " ")
    assert said.startswith("Nothing seems to be sung (97 % sure): there seems to be singing in 1 of the 3 windows")
    assert page.get_by_text("Each apart").count() == 0


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Of a release that reads lyrics."""
    folder = tmp_path_factory.mktemp("voice")
    write_reading_voice(folder / "store")
    with LiveServer(folder / "server", model_store=folder / "store", model="lrid_voice/1", decode_workers=1) as live:
        yield live.wait_until_ready()


def test_lyrics_are_asked_for_where_the_release_reads_them(browser: Browser, voice: LiveServer, clip: bytes) -> None:
    visitor = Visit(browser, voice, viewport=PHONE)
    page = visitor.open()
    page.get_by_label("Lyrics").fill("Je suis resté devant la porte\navec mes fleurs")
    page.get_by_role("button", name="Identify", exact=True).click()
    page.wait_for_selector("#used:has-text('Read the lyrics.')")
    page.locator("#file").set_input_files({"name": "clip.wav", "mimeType": "audio/wav", "buffer": clip})
    page.get_by_role("button", name="Identify", exact=True).click()
    page.wait_for_selector("#used:has-text('Listened'):has-text('Read the lyrics.')")
    assert "the lyrics alone" in page.locator("#why").inner_text()
    assert page.locator("#tags").get_by_label("Lyrics").input_value().startswith("Je suis")
    page.locator("#tags").get_by_label("Lyrics").fill("")
    page.locator("#tags").get_by_role("button").click()
    page.wait_for_selector("#used:has-text('Listened'):not(:has-text('lyrics'))")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    visitor.context.close()
    assert visitor.errors == []


@pytest.mark.parametrize(("kind", "head"), [("genres", "Genre"), ("artists", "Artist"), ("tags", "Tag")])
def test_answers_that_are_no_languages_are_a_table(visit: Visit, server: LiveServer, kind: str, head: str) -> None:
    """By an answer of the server, changed to what a release of another task says."""
    answer = server.identify(json={"title": "La vie en rose"}).json()
    found = [{"code": f"c{n}", "name": f"Name {n}", "probability": 0.5 / 2**n} for n in range(7)]
    if kind == "tags":
        found = [one | {"applies": one["probability"] > 0.2} for one in found]
        answer = {name: answer[name] for name in answer if name not in {"language", "probability", "languages", "sung"}}
    else:
        answer = {name: answer[name] for name in answer if name not in {"language", "languages", "sung"}}
        answer |= {head.lower(): "c0", "probability": 0.5}
    visit.page.route(re.compile("/identify$"), lambda route: route.fulfill(json=answer | {kind: found}))
    page = visit.open()
    assert not page.get_by_label("Lyrics").is_visible()
    page.get_by_label("Title", exact=True).fill("Anything")
    page.get_by_role("button", name="Identify", exact=True).click()
    page.wait_for_selector("#answer")
    assert page.locator("#answer").inner_text().startswith("Name 0")
    table = page.locator("#result table.plain").first
    assert table.locator("thead th").first.inner_text() == head
    assert table.locator("tbody tr").count() == 5
    cells = table.locator("tbody tr").nth(1).inner_text().replace("\xa0", " ").split("\t")
    assert cells == ["Name 1", "c1", "25 %", *(["yes"] if kind == "tags" else [])]
    assert page.locator(".bars").count() == 0


def test_the_docs_need_nothing_from_elsewhere(visit: Visit) -> None:
    page = visit.open("/docs#audio_truncated")
    page.wait_for_selector("tr#audio_truncated")
    assert page.locator("details.operation").count() > 10
    assert "POST" in page.locator("[id='post/identify']").inner_text()

"""The report of a corpus: what it counts, and the page that shows it."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.engine.prepared_texts import prepare, write_texts
from weldlm.data.cleaning import CleanSettings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<script>console.error('run')</script> & \"quotes\""


class Page(HTMLParser):
    """The ids of a page, its texts, and the addresses that it names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.ids += [value or ""] if name == "id" else []
            self.addresses += [value or ""] if name in ("href", "src") else []

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.fixture(name="folder")
def folder_with_a_report(tmp_path: Path) -> Path:
    write_texts(tmp_path / "texts")
    (tmp_path / "texts" / "hostile.txt").write_text(f"fine\n{HOSTILE} privacy policy\n")
    (tmp_path / "texts" / "rows.jsonl").write_text('{"text": "see jo@example.org"}\n{}\n')
    (tmp_path / "texts" / "picture.png").write_bytes(b"\x89PNG")
    cleaning = CleanSettings(rules=("boilerplate",), redact=("email",))
    prepare(tmp_path, cleaning=cleaning, on_error="skip")
    return tmp_path


def test_report_counts_what_was_done(folder: Path) -> None:
    report = json.loads((folder / "corpus" / "report.json").read_text())

    steps = {name: (step["removed"], step["changed"]) for name, step in report["steps"].items()}
    assert steps == {"c4_policies": (0, 1), "redact_email": (0, 1), "exact_duplicates": (8, 0)}
    assert report["documents"] == 62
    assert report["sources"]["left_out"] == {".png": 1}
    assert report["sources"]["bad"] == 1
    (sample,) = report["steps"]["c4_policies"]["samples"]
    assert sample == {
        "name": "texts/hostile.txt",
        "instead": "",
        "text": f"{HOSTILE} privacy policy",
    }
    assert report["steps"]["c4_policies"]["characters"] == len(sample["text"]) + 1


def test_page_shows_the_report_and_needs_nothing_else(folder: Path) -> None:
    page = Page((folder / "corpus" / "report.html").read_text())

    assert {"summary", "steps", "lengths", "samples", "bad", "settings"} <= set(page.ids)
    assert f"{HOSTILE} privacy policy" in " ".join(page.texts)
    assert "script" not in page.tags
    assert page.addresses == ["data:,"]
    assert not [text for text in page.texts if "jo@example.org" in text]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_page_looks_right_to_a_browser(folder: Path) -> None:
    page = folder / "corpus" / "report.html"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command = [str(CHROMIUM), *options, f"--user-data-dir={folder / 'browser'}", "--dump-dom"]

    shown = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, check=True)

    assert "CONSOLE" not in shown.stderr
    assert {"summary", "steps", "lengths", "samples", "bad"} <= set(Page(shown.stdout).ids)
    assert "<details><summary>c4_policies (1)</summary>" in shown.stdout

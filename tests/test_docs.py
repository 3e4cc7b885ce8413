"""The pages of docs: their commands and snippets run, one behind the other, in one folder."""

import os
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
# models.md reads models that test_models_document.py makes
PAGES = [page for page in sorted(DOCS.glob("*.md")) if page.name != "models.md"]
# a comment before a block names the package without which it cannot run
BLOCK = r"^(?:<!-- needs (\w+) -->\n)?( *)```{language}\n(.*?)^ *```"


def blocks(page: Path, language: str) -> str:
    """All blocks of a language as one program."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(BLOCK.format(language=language), text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(
        textwrap.dedent(code) for needed, _, code in found if not needed or find_spec(needed)
    )


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text(Path(subprocess.__file__).read_text(encoding="utf-8"))
    (tmp_path / "weldlm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m weldlm "$@"\n')
    (tmp_path / "weldlm").chmod(0o755)

    commands = run(["bash", "-euc", blocks(page, "sh")], tmp_path)
    snippets = run([sys.executable, "-c", blocks(page, "python")], tmp_path)

    assert commands.returncode == 0, commands.stderr
    assert snippets.returncode == 0, snippets.stderr

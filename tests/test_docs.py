"""The pages of docs: their commands and snippets run, one behind the other, in one folder."""

import os
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.engine.tiny_models import tiny_config
from weldlm.heads import MaskedLM
from weldlm.pretraining import adapt_config
from weldlm.tokenizer import Tokenizer
from weldlm.weights import save_pretrained

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


def add_reviews(folder: Path) -> None:
    """Rows with labels, rows without, and a tiny BERT in the place of MiniLM."""
    words = [("good", 1), ("bad", 0), ("fine", 1), ("poor", 0)]
    rows = [f"a {word} {thing}\t{label}" for thing in map(str, range(12)) for word, label in words]
    (folder / "reviews.tsv").write_text("\n".join(rows) + "\n")
    (folder / "new.tsv").write_text("a good film\na bad one\n")
    tokenizer = Tokenizer.train(rows, 120, algorithm="wordpiece", allow_smaller=True)
    config = adapt_config(tiny_config("bert-base"), tokenizer)
    save_pretrained(MaskedLM(config), folder / "MiniLM")
    tokenizer.save(folder / "MiniLM" / "tokenizer.json")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text(Path(subprocess.__file__).read_text(encoding="utf-8"))
    (tmp_path / "weldlm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m weldlm "$@"\n')
    (tmp_path / "weldlm").chmod(0o755)
    if page.name == "finetune.md":
        add_reviews(tmp_path)

    commands = run(["bash", "-euc", blocks(page, "sh")], tmp_path)
    snippets = run([sys.executable, "-c", blocks(page, "python")], tmp_path)

    assert commands.returncode == 0, commands.stderr
    assert snippets.returncode == 0, snippets.stderr

"""The pages of docs: their commands and snippets run, one behind the other, in one folder."""

import subprocess
from pathlib import Path

import pytest

from tests.documents import blocks, run_commands, run_snippet
from tests.engine.tiny_models import tiny_config
from weldlm.heads import MaskedLM
from weldlm.pretraining import adapt_config
from weldlm.tokenizer import Tokenizer
from weldlm.weights import save_pretrained

DOCS = Path(__file__).parents[1] / "docs"
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
# models.md reads models that test_models_document.py makes
PAGES = [
    name
    for name, text in TEXTS.items()
    if name != "models.md" and (blocks(text, "sh") or blocks(text, "python"))
]


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


@pytest.mark.parametrize("name", PAGES)
def test_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text(Path(subprocess.__file__).read_text(encoding="utf-8"))
    if name in ("finetune.md", "distillation.md"):
        add_reviews(tmp_path)

    run_commands("".join(blocks(TEXTS[name], "sh")), tmp_path)
    run_snippet("\n".join(blocks(TEXTS[name], "python")), tmp_path)

"""The Python blocks of the documents, run in order, as a reader would."""

import re
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = r"^(?:<!-- needs (\w+) -->\n)?( *)```python\n(.*?)^ *```"


def run_blocks(name: str) -> tuple[int, dict[str, Any]]:
    """How many blocks a document has, and the names that they leave behind."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    found = re.findall(BLOCK, text, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for needed, _, code in found:
        if not needed or find_spec(needed) is not None:
            exec(compile(textwrap.dedent(code), f"{name}.md", "exec"), names)
    return len(found), names


def test_examples_of_patch_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    num_blocks, names = run_blocks("patch")

    assert num_blocks == 6
    assert names["report"].padding == "packed"
    assert names["packed"]["input_ids"].shape == (1, 36)
    assert float(names["loss"]) > 0

"""README's commands and snippets, run as they stand there, with less time and text to train on."""

from pathlib import Path

import pytest

from tests.documents import blocks, run_commands, run_snippet

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands have run, and what they printed, in `printed.txt`."""
    path = tmp_path_factory.mktemp("readme")
    (path / "README.md").write_text(README)
    (commands,) = (block for block in blocks(README, "sh") if "weldlm train" in block)
    commands = commands.replace("--minutes 2", "--steps 2 --context-length 64")
    printed = run_commands(commands.replace("--data stdlib", "--data README.md"), path)
    (path / "printed.txt").write_text(printed)
    return path


def test_commands_do_what_they_say(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()

    assert "def main(" in printed
    assert "linear_cross_entropy" in printed
    assert len((folder / "completions.jsonl").read_text().splitlines()) == 2
    assert (folder / "tokenizer.json").is_file()


@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_snippet_runs(number: int, folder: Path) -> None:
    names = run_snippet(blocks(README, "python")[number], folder)

    assert len(names) > 2

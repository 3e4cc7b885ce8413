"""README's commands and snippets, run as they stand there, with less time and text to train on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands have run, and what they printed, in `printed.txt`."""
    path = tmp_path_factory.mktemp("readme")
    (path / "README.md").write_text(README)
    (path / "weldlm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m weldlm "$@"\n')
    (path / "weldlm").chmod(0o755)
    (commands,) = (block for block in blocks("sh") if "weldlm train" in block)
    environment = os.environ | {"PATH": f"{path}:{os.environ['PATH']}"}
    commands = commands.replace("--minutes 2", "--steps 2 --context-length 64")
    done = subprocess.run(
        ["bash", "-euc", commands.replace("--data stdlib", "--data README.md")],
        cwd=path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (path / "printed.txt").write_text(done.stdout)
    return path


def test_commands_do_what_they_say(folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()

    assert "def main(" in printed
    assert "linear_cross_entropy" in printed
    assert len((folder / "completions.jsonl").read_text().splitlines()) == 2
    assert (folder / "tokenizer.json").is_file()


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_snippet_runs(number: int, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")[number]],
        cwd=folder,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr

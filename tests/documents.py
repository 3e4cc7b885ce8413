"""Commands and snippets of documents, run as they stand there.

What they need of weldlm and torch is imported once, by the tests: commands of weldlm and snippets
run in this process. Lines that need a shell go to one, where `weldlm` is a program.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from weldlm.cli import main

__all__ = ["blocks", "run_commands", "run_snippet"]

# a comment before a block names the package without which it cannot run
BLOCK = r"^(?:<!-- needs (\w+) -->\n)?( *)```{language}\n(.*?)^ *```"
SHELL_CHARACTERS = re.compile(r"[$`*?~\\]")
OPERATORS = frozenset("|&;<>()")


def blocks(text: str, language: str) -> list[str]:
    """The blocks of a language that can run here."""
    found = re.findall(BLOCK.format(language=language), text, flags=re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for needed, _, code in found if not needed or find_spec(needed)]


def run_commands(text: str, folder: Path) -> str:
    """Runs the lines of a shell script in `folder`, each by itself; returns what they printed."""
    printed = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "weldlm" and not _needs_shell(line):
            printed.append(_run_weldlm(words[1:], folder))
        elif words:
            printed.append(_run_in_shell(line, folder))
    return "".join(printed)


def run_snippet(code: str, folder: Path) -> dict[str, object]:
    """Runs a program in `folder`; returns its global names."""
    names: dict[str, object] = {"__name__": "__main__"}
    with contextlib.chdir(folder), torch.random.fork_rng(devices=[]):
        exec(code, names)
    return names


def _needs_shell(line: str) -> bool:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return any(SHELL_CHARACTERS.search(word) or (word and set(word) <= OPERATORS) for word in lexer)


def _run_weldlm(arguments: list[str], folder: Path) -> str:
    bytes_printed = io.BytesIO()
    printed = io.TextIOWrapper(bytes_printed, encoding="utf-8")
    with (
        contextlib.chdir(folder),
        torch.random.fork_rng(devices=[]),
        contextlib.redirect_stdout(printed),
        pytest.raises(SystemExit) as exit_,
    ):
        main(arguments)
    printed.flush()
    text = bytes_printed.getvalue().decode()
    assert not exit_.value.code, f"weldlm {shlex.join(arguments)} gave {exit_.value.code}: {text}"
    return text


def _run_in_shell(line: str, folder: Path) -> str:
    program = folder / "weldlm"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m weldlm "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", line], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{line} gave {done.returncode}: {done.stderr}"
    return done.stdout

"""The examples run and reach what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
LOSS_OF_A_GUESS = 4.16  # ln 64
MOST_LINES = 60


def test_model_from_a_paper_learns() -> None:
    example = runpy.run_path(str(EXAMPLES / "model_from_a_paper.py"))

    assert example["main"](40) < LOSS_OF_A_GUESS - 0.7


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES

"""The examples run and reach what they say."""

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
LOSS_OF_A_GUESS = 4.16  # ln 64


def test_model_from_a_paper_learns() -> None:
    example = runpy.run_path(str(EXAMPLES / "model_from_a_paper.py"))

    assert example["main"](40) < LOSS_OF_A_GUESS - 0.7

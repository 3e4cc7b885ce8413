"""Runs `weldlm demo` and writes what it measured to benchmarks/results/demo.md.

python -m benchmarks.demo [--minutes 2]
"""

import argparse
import datetime
import platform
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.report import installed, processor

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results" / "demo.md"
# of the lines that the demo prints
FIGURES = re.compile(
    r"^(corpus:|model:|all held-out files|  xz,|tokens per second|  weldlm k|  plain|  ratio)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="of training")
    minutes = parser.parse_args().minutes
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "weldlm", "demo", "--minutes", str(minutes)]
        done = subprocess.run(
            [*command, "--out", f"{folder}/run"], stdout=subprocess.PIPE, text=True, check=True
        )
    RESULTS.write_text(page(done.stdout, minutes), encoding="utf-8")


def page(printed: str, minutes: float) -> str:
    figures = [line for line in printed.splitlines() if FIGURES.match(line)]
    return "\n".join(
        [
            "# The demo",
            "",
            f"{processor()}, {torch.get_num_threads()} threads, {platform.system()}, "
            f"Python {platform.python_version()}, torch {installed('torch')}",
            "",
            f"{datetime.date.today()}, `python -m benchmarks.demo --minutes {minutes:g}`: "
            f"`weldlm demo --minutes {minutes:g}`. The model never saw the files held out; our "
            "kernels and the reference take turns in the same run.",
            "",
            "```",
            *figures,
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    main()

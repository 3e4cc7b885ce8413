"""Runs every comparison and writes benchmarks/results/cpu.md.

python -m benchmarks.report [--pairs 7]
"""

import argparse
import datetime
import importlib
import pkgutil
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import benchmarks
from benchmarks.compare import Comparison, Outcome, measure

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results" / "cpu.md"
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "tiktoken",
    "sentencepiece",
    "gigatoken",
    "fastokens",
    "quicktok-v1",
    "numpy",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="timed pairs of each comparison")
    parser.add_argument("--only", default="", help="part of a benchmark file's name")
    arguments = parser.parse_args()
    outcomes = []
    for comparison in all_comparisons(arguments.only):
        outcomes.append(measure(comparison, pairs=arguments.pairs))
        print(row(outcomes[-1]), flush=True)
    if not arguments.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(page(outcomes, arguments.pairs), encoding="utf-8")


def all_comparisons(only: str) -> Iterator[Comparison]:
    """The comparisons of every bench_*.py that has some."""
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("bench_") and only in module.name:
            found = importlib.import_module(f"benchmarks.{module.name}")
            if hasattr(found, "comparisons"):
                yield from found.comparisons()


def page(outcomes: list[Outcome], pairs: int) -> str:
    head = [
        "# CPU benchmarks",
        "",
        f"{processor()}, {torch.get_num_threads()} threads, {platform.system()}, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {installed(name)}" for name in PACKAGES),
        "",
        f"{datetime.date.today()}, `python -m {' '.join(['benchmarks.report', *sys.argv[1:]])}`. "
        f"Both sides take turns; each figure is the median of {pairs} pairs, the range is over the "
        "pairs. Results are checked equal before anything is timed. Above 1 we are faster.",
        "",
        "| work | peer | ratio | range | ours, ms | peer, ms |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(row, outcomes), ""])


def row(outcome: Outcome) -> str:
    comparison = outcome.comparison
    return (
        f"| {comparison.work} | {comparison.peer} | {outcome.ratio:.2f} "
        f"| {outcome.lowest:.2f}-{outcome.highest:.2f} "
        f"| {outcome.ours * 1e3:.3g} | {outcome.theirs * 1e3:.3g} |"
    )


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


if __name__ == "__main__":
    main()

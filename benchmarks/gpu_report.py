"""Checks every Triton kernel on a GPU, times it, and writes benchmarks/results/gpu.md and .json.

python -m benchmarks.gpu_report              # under nine minutes on one H100
python -m benchmarks.gpu_report --roofline   # no GPU: what each case must compute and move

Run it in the root of the checkout; the checks use the oracle of the tests.
"""

import argparse
import dataclasses
import datetime
import json
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.gpu.case import all_timings
from benchmarks.gpu.check import Verdict, check_all
from benchmarks.gpu.clock import Ceilings, ceilings
from benchmarks.gpu.stopwatch import OURS, Row, time_case

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results"
# of an H100 SXM, measured elsewhere: for --roofline alone, which runs nothing
H100 = Ceilings(bytes_per_second=3.0e12, flops_per_second=798e12)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--roofline", action="store_true", help="print the limits; run nothing")
    parser.add_argument("--minutes", type=float, default=8.5, help="leave out what is late")
    parser.add_argument("--workers", type=int, default=8, help="processes that check and compile")
    arguments = parser.parse_args()
    if arguments.roofline:
        print("\n".join(roofline_page()))
        return
    if not torch.cuda.is_available():
        parser.error("no GPU is visible to torch; expected one, or --roofline for the limits")
    deadline = time.monotonic() + 60 * arguments.minutes
    verdicts = list(_told(check_all(arguments.workers)))
    limits = ceilings()
    rows, late = _timed(limits, deadline)
    page = result_page(verdicts, limits, rows, late)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "gpu.md").write_text("\n".join([*page, ""]), encoding="utf-8")
    content = {
        "checks": [dataclasses.asdict(verdict) for verdict in verdicts],
        "ceilings": dataclasses.asdict(limits),
        "timings": [dataclasses.asdict(row) for row in rows],
        "late": late,
    }
    (RESULTS / "gpu.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print("\n".join(page))
    sys.exit(any(verdict.fault for verdict in verdicts))


def roofline_page() -> list[str]:
    """The least work of each case, and its time at the rates of an H100."""
    lines = [
        "# GPU benchmarks",
        "",
        "No GPU has run these kernels yet, so no speed is known and none is claimed. They are "
        "proven in Triton's interpreter and by compiling them (tests/kernels). This page holds "
        "what each case must compute and move at the least, from "
        "`python -m benchmarks.gpu_report --roofline`; on a machine with a GPU the same command "
        "without the option checks, times and replaces it.",
        "",
        f"Limits at {H100.flops_per_second / 1e12:g} TFLOP/s and "
        f"{H100.bytes_per_second / 1e12:g} TB/s, the rates of an H100.",
        "",
        "| case | part | GFLOP | MB | limit, ms | bound by |",
        "|---|---|---|---|---|---|",
    ]
    for timing in all_timings():
        for part in timing.passes:
            cost = part.cost
            limit = cost.limit(H100.flops_per_second, H100.bytes_per_second)
            bound = "memory" if limit * H100.bytes_per_second <= cost.bytes else "products"
            lines.append(
                f"| {timing.name} | {part.part} | {cost.flops / 1e9:.4g} "
                f"| {cost.bytes / 1e6:.4g} | {limit * 1e3:.3g} | {bound} |"
            )
    return lines


def result_page(
    verdicts: list[Verdict], limits: Ceilings, rows: list[Row], late: list[str]
) -> list[str]:
    """The Markdown page: faults first, then times."""
    faults = [verdict for verdict in verdicts if verdict.fault]
    properties = torch.cuda.get_device_properties(0)
    return [
        "# GPU benchmarks",
        "",
        f"{properties.name}, torch {torch.__version__}, Triton {version('triton')}, "
        f"{datetime.date.today()}, "
        f"`python -m {' '.join(['benchmarks.gpu_report', *sys.argv[1:]])}`.",
        f"Copy {limits.bytes_per_second / 1e12:.3g} TB/s, bf16 product "
        f"{limits.flops_per_second / 1e12:.4g} TFLOP/s in the same run. Medians of interleaved "
        "rounds with a cold L2 cache; a ratio above 1 means that we are faster.",
        "",
        f"{len(verdicts) - len(faults)} of {len(verdicts)} checks against fp64 pass, bit-equal "
        "when repeated.",
        *(f"- FAULT {v.name}, {v.dtype}: {v.fault}" for v in faults),
        "",
        "| case | part | ms | TFLOP/s | share of copy | share of limit | peers, x ours | peak, MB "
        "| must reach |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_line, rows),
        *(f"\nNot timed for want of time: {', '.join(late)}." for _ in late[:1]),
        *_absences(rows),
    ]


def _line(row: Row) -> str:
    ours = row.times[OURS].median
    peers = ", ".join(
        f"{name} {spread.median / ours:.2f}" for name, spread in row.times.items() if name != OURS
    )
    peak = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in row.peak.items())
    mark = {None: "", True: " reached", False: " MISSED"}[row.is_reached]
    return (
        f"| {row.name} | {row.part} | {ours:.3g} | {row.teraflops:.3g} | {row.share_of_copy:.2f} "
        f"| {row.share_of_limit:.2f} | {peers} | {peak} | {row.must}{mark} |"
    )


def _absences(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        for peer, reason in row.absent.items():
            yield f"\n{row.name}, {row.part}: {peer} is left out ({reason})."


def _told(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    for verdict in verdicts:
        print(f"{verdict.name}, {verdict.dtype}: {verdict.fault or 'ok'}", flush=True)
        yield verdict


def _timed(limits: Ceilings, deadline: float) -> tuple[list[Row], list[str]]:
    rows, late = [], []
    for timing in all_timings():
        if time.monotonic() > deadline:
            late.append(timing.name)
            continue
        rows += time_case(timing, limits, torch.device("cuda"))
        print("\n".join(map(_line, rows[-len(timing.passes) :])), flush=True)
        torch.cuda.empty_cache()
    return rows, late


if __name__ == "__main__":
    main()

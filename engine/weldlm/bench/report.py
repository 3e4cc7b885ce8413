"""What was measured as a table, JSON, CSV or Markdown, with what is needed to repeat it."""

import csv
import datetime
import io
import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from weldlm.bench.generation_bench import GenerationBench
from weldlm.bench.measurement import Measurement

__all__ = ["COLUMNS", "BenchReport", "as_csv", "as_json", "as_markdown", "processor"]

COLUMNS = ("work", "side", "tokens/s", "range", "roofline", "ratio")
_PACKAGES = ("torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """A run of a benchmark."""

    command: str
    model: str
    num_parameters: int
    dtype: str
    device: str
    batch_size: int
    bench: GenerationBench

    @property
    def head(self) -> dict[str, Any]:
        """Where and how it was measured."""
        return {
            "command": self.command,
            "date": str(datetime.date.today()),
            "machine": processor(self.device),
            "threads": torch.get_num_threads() if self.device == "cpu" else None,
            "system": f"{platform.system()}, Python {platform.python_version()}",
            **{name: _installed(name) for name in _PACKAGES},
            "model": self.model,
            "num_parameters": self.num_parameters,
            "dtype": self.dtype,
            "batch_size": self.batch_size,
            "read_gigabytes_per_second": round(self.bench.read_bandwidth / 1e9, 2),
            "has_equal_ids": self.bench.has_equal_ids,
        }

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Numbers as they are."""
        return [_row(measured) for measured in self.bench.measurements]

    @property
    def cells(self) -> list[tuple[str, ...]]:
        """Numbers as they are read, under `COLUMNS`."""
        return [_cells(measured) for measured in self.bench.measurements]


def as_json(report: BenchReport) -> str:
    return json.dumps({**report.head, "rows": report.rows}, indent=2) + "\n"


def as_csv(report: BenchReport) -> str:
    """A line for each row, which repeats what all have in common."""
    lines = io.StringIO()
    rows = [{**report.head, **row} for row in report.rows]
    for row in rows:
        row["seconds"] = " ".join(map(str, row["seconds"]))
    writer = csv.DictWriter(lines, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return lines.getvalue()


def as_markdown(report: BenchReport) -> str:
    head = report.head
    where = [str(head["machine"])]
    if head["threads"]:
        where.append(f"{head['threads']} thread{'s' * (head['threads'] > 1)}")
    where += [str(head["system"]), *(f"{name} {head[name]}" for name in _PACKAGES)]
    what = (
        f"{report.model}, {report.num_parameters:,} weights in {report.dtype}, at most "
        f"{report.batch_size} sequences at a time. Memory is read at "
        f"{head['read_gigabytes_per_second']} GB/s, measured in the same run."
    )
    checked = {
        True: " All sides gave the same greedy ids before anything was timed.",
        False: " The sides gave other greedy ids, as rounding in this dtype may do.",
        None: "",
    }[report.bench.has_equal_ids]
    rules = ["---", "---", *["---:"] * (len(COLUMNS) - 2)]
    table = [COLUMNS, rules, *report.cells]
    return "\n".join(
        [
            "# Generation",
            "",
            ", ".join(where),
            "",
            f"{head['date']}, `{report.command}`. {what}{checked} Sides take turns; tokens per "
            "second are the median of the rounds, beside their range; the roofline is the share of "
            "the speed that memory allows; the ratio is how many times as long as weldlm a side "
            "took, the median over the rounds.",
            "",
            *(f"| {' | '.join(cells)} |" for cells in table),
            "",
        ]
    )


def processor(device: str) -> str:
    """What the machine calls the device."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _row(measured: Measurement) -> dict[str, Any]:
    workload = measured.workload
    return {
        "work": workload.name,
        "side": measured.side,
        "num_rows": len(workload.prompts),
        "num_prompt_tokens": workload.num_prompt_tokens,
        "num_new_tokens": workload.num_new_tokens,
        "tokens_per_second": measured.tokens_per_second,
        "slowest": measured.slowest,
        "fastest": measured.fastest,
        "roofline_share": measured.roofline_share,
        "ratio": measured.ratio,
        "seconds": list(measured.seconds),
    }


def _cells(measured: Measurement) -> tuple[str, ...]:
    share = measured.roofline_share
    return (
        measured.workload.name,
        measured.side,
        f"{measured.tokens_per_second:,.1f}",
        f"{measured.slowest:,.1f}-{measured.fastest:,.1f}",
        "-" if share is None else f"{share:.1%}",
        "-" if measured.ratio is None else f"{measured.ratio:.2f}",
    )


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"

"""Compiles every row of the compile gate and writes what each kernel takes of a GPU.

python -m benchmarks.compiled_kernels [--arch 80 90 100] [--only attention] [--sampled]

Needs no GPU. The page, benchmarks/results/compiled_kernels.md, has a section for each minor version
of Triton that wrote one; the compile gate (tests/kernels/test_compile_gate.py) fails where a kernel
takes more than its row says.
"""

import argparse
import re
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.kernels.compiler import Case, Resources, resources

__all__ = [
    "PAGE",
    "Footprint",
    "cases",
    "footprints",
    "main",
    "minor_version",
    "occupancy",
    "recorded",
]

PAGE = Path(__file__).parent / "results" / "compiled_kernels.md"
ARCHITECTURES = (80, 90, 100)
DOTS = ("HMMA", "IMMA", "HGMMA", "IGMMA", "QGMMA", "UTCHMMA")
HEAD = (
    "| case | sm | kernel | registers | stack | shared, bytes | warps | occupancy | instructions "
    "| tensor-core | 128-bit loads |"
)
# of a multiprocessor (CUDA programming guide, compute capabilities)
_REGISTERS, _WARPS, _PROGRAMS = 65_536, 64, 32
_SHARED = {80: 167_936, 90: 233_472, 100: 233_472}
_SHARED_OF_SYSTEM = 1_024  # a program
_REGISTER_UNIT = 256  # in which a warp gets its registers


@dataclass(frozen=True, slots=True)
class Footprint:
    """A row of the page."""

    case: str
    arch: int
    kernel: str
    registers: int  # per thread
    stack: int  # bytes per thread
    shared: int  # bytes per program
    warps: int  # per program
    occupancy: float  # resident warps over those that a multiprocessor can hold
    instructions: int
    dots: int  # tensor-core instructions
    wide_loads: int

    def line(self) -> str:
        return (
            f"| {self.case} | {self.arch} | {self.kernel} | {self.registers} | {self.stack} "
            f"| {self.shared} | {self.warps} | {self.occupancy:.2f} | {self.instructions} "
            f"| {self.dots} | {self.wide_loads} |"
        )


def cases() -> list[Case]:
    """The rows of tests/kernels/gate_*.py."""
    folder = Path(__file__).parents[1] / "tests" / "kernels"
    names = sorted(path.stem for path in folder.glob("gate_*.py"))
    return [case for name in names for case in import_module(f"tests.kernels.{name}").CASES]


def footprints(case: str, arch: int, compiled: Iterable[Any]) -> list[Footprint]:
    """What each of a case's compiled kernels takes of an sm_<arch>."""
    return [_footprint(case, arch, place, kernel) for place, kernel in enumerate(compiled)]


def occupancy(used: Resources, arch: int) -> float:
    """The share of a multiprocessor's warps that can be resident."""
    warps = used.threads // 32
    per_warp = -(-used.registers * 32 // _REGISTER_UNIT) * _REGISTER_UNIT
    programs = min(
        _WARPS // warps,
        _PROGRAMS,
        _REGISTERS // per_warp // warps,
        _SHARED[arch] // (used.shared + _SHARED_OF_SYSTEM),
    )
    return programs * warps / _WARPS


def recorded(triton: str) -> dict[tuple[str, int, str], Footprint]:
    """The rows that a Triton version such as 3.9 wrote, by case, architecture and kernel."""
    if not PAGE.is_file():
        return {}
    sections = re.split(r"^## Triton (\S+)$", PAGE.read_text(encoding="utf-8"), flags=re.M)
    found = dict(zip(sections[1::2], sections[2::2], strict=True)).get(triton, "")
    lines = [line.strip("| ").split(" | ") for line in found.splitlines() if line.startswith("|")]
    rows = [_parsed(cells) for cells in lines[2:]]
    return {(row.case, row.arch, row.kernel): row for row in rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", type=int, nargs="+", default=ARCHITECTURES, help="of the GPUs")
    parser.add_argument("--only", default="", help="part of a case's name; keeps the other rows")
    parser.add_argument(
        "--sampled",
        action="store_true",
        help="the cases of the default tests; keeps the other rows",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that compile")
    arguments = parser.parse_args()
    triton = minor_version()
    rows = recorded(triton)
    chosen = [case for case in cases() if not (arguments.sampled and case.is_slow)]
    names = [case.name for case in chosen if arguments.only in case.name]
    tasks = [(name, arch) for name in names for arch in arguments.arch]
    rows = {key: row for key, row in rows.items() if (row.case, row.arch) not in tasks}
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for done, found in enumerate(pool.map(_compile, *zip(*tasks, strict=True)), 1):
            rows |= {(row.case, row.arch, row.kernel): row for row in found}
            print(f"{done}/{len(tasks)} {found[0].case} sm_{found[0].arch}", flush=True)
    _write(triton, rows.values())


def minor_version() -> str:
    """Of the installed Triton, such as 3.9."""
    return ".".join(version("triton").split(".")[:2])


def _compile(name: str, arch: int) -> list[Footprint]:
    (case,) = (case for case in cases() if case.name == name)
    return footprints(name, arch, case.compile(arch))


def _footprint(case: str, arch: int, place: int, kernel: Any) -> Footprint:
    used = resources(kernel)
    return Footprint(
        case,
        arch,
        f"{place} {kernel.metadata.name}",
        used.registers,
        used.stack,
        used.shared,
        used.threads // 32,
        occupancy(used, arch),
        sum(used.opcodes.values()),
        sum(used.opcodes[opcode] for opcode in DOTS),
        used.wide_loads,
    )


def _write(triton: str, rows: Iterable[Footprint]) -> None:
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    others = re.findall(r"^## Triton (\S+)$(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
    sections = {name: body for name, body in others if name != triton}
    lines = sorted(row.line() for row in rows)
    sections[triton] = "\n".join(["", "", HEAD, "|" + "---|" * (HEAD.count("|") - 1), *lines, ""])
    head = [
        "# Compiled kernels",
        "",
        "What every kernel takes of a GPU, from `python -m benchmarks.compiled_kernels`, which "
        "compiles without one. Occupancy counts registers, shared memory and warps. Nothing here "
        "was run.",
        "",
    ]
    body = "\n".join(f"## Triton {name}{sections[name]}" for name in sorted(sections))
    PAGE.write_text("\n".join([*head, body]), encoding="utf-8")


def _parsed(cells: list[str]) -> Footprint:
    case, arch, kernel, registers, stack, shared, warps, occupied, *counts = cells
    return Footprint(
        case, int(arch), kernel, int(registers), int(stack), int(shared), int(warps),
        float(occupied), *map(int, counts),
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""Memory for a program: what is free, less what its control groups hold back."""

from pathlib import Path

import pytest
import torch

from weldlm import available_memory
from weldlm.available_memory import available_bytes

MEMINFO = "MemTotal: 9000 kB\nMemAvailable: 8000 kB\nSwapFree: 500 kB\nHugePages_Total: 0\n"
HELD = 100  # KiB


@pytest.fixture(name="root")
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8000 KiB and swap of 500 KiB, and a program that holds 100 KiB."""
    monkeypatch.setattr(available_memory, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(available_memory, "_CGROUPS", tmp_path / "cgroup")
    write(tmp_path / "proc" / "meminfo", MEMINFO)
    write(tmp_path / "proc" / "self" / "status", f"Name:\tx\nRssAnon:\t {HELD} kB\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def join_group(root: Path, line: str) -> None:
    write(root / "proc" / "self" / "cgroup", f"5:cpu:/\n{line}\n")


def limit(folder: Path, most: object, *, version: int, used: int, cached: int) -> None:
    """KiB."""
    names = {
        1: "memory.limit_in_bytes memory.usage_in_bytes total_",
        2: "memory.max memory.current",
    }
    most_name, used_name, prefix = [*names[version].split(), ""][:3]
    write(folder / most_name, f"{most * 1024 if isinstance(most, int) else most}\n")
    write(folder / used_name, f"{used * 1024}\n")
    stat = f"anon 1\n{prefix}inactive_file {cached * 1024}\n{prefix}active_file 0\n"
    write(folder / "memory.stat", stat)


def test_without_groups_it_is_what_the_machine_can_give(root: Path) -> None:
    assert (root / "proc").exists()
    assert available_bytes("cpu") == (8000 + 500 + HELD) * 1024


@pytest.mark.parametrize(
    ("line", "folder", "version"),
    [
        ("0::/job/step", "job/step", 2),
        ("0::/job/step", "job", 2),
        ("0::/", "", 2),
        ("4:memory:/job", "memory/job", 1),
        ("4:hugetlb,memory:/on/the/host", "memory", 1),
    ],
    ids=["version-2", "parent", "container", "version-1", "container-of-version-1"],
)
def test_a_group_leaves_its_limit_less_what_it_uses(
    root: Path, line: str, folder: str, version: int
) -> None:
    join_group(root, line)
    limit(root / "cgroup" / folder, 3000, version=version, used=1200, cached=200)

    assert available_bytes("cpu") == (3000 - 1200 + 200 + 500 + HELD) * 1024


@pytest.mark.parametrize(
    ("line", "most", "version"),
    [("0::/", "max", 2), ("4:memory:/", 2**53, 1), ("0::/", 90_000, 2)],
    ids=["max", "largest-number", "more-than-the-machine"],
)
def test_a_group_without_a_limit_takes_nothing_away(
    root: Path, line: str, most: object, version: int
) -> None:
    join_group(root, line)
    folder = root / "cgroup" / ("memory" if version == 1 else "")
    limit(folder, most, version=version, used=1200, cached=200)

    assert available_bytes("cpu") == (8000 + 500 + HELD) * 1024


@pytest.mark.parametrize("file", ["meminfo", "self/status"])
def test_where_the_system_does_not_say_it_is_unknown(root: Path, file: str) -> None:
    (root / "proc" / file).unlink()

    assert available_bytes("cpu") is None


def test_what_the_program_holds_counts_as_available() -> None:
    before = available_bytes("cpu")
    held = torch.ones(64 << 20, dtype=torch.uint8)  # touched, so the machine has given it
    after = available_bytes("cpu")

    assert held.nbytes == 64 << 20
    assert before is not None
    assert after is not None
    # others use the machine too; without what is held, it would be 64 MiB less
    assert after / before == pytest.approx(1, abs=0.2)

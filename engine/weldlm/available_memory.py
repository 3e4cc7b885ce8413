"""How much memory this program can have in all: what it holds, and what is free for it.

On the CPU that is what the machine can give without swapping anything out, and swap; less where a
control group of Linux (a container, a batch system) sets a limit. Cached files count as free.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = ["available_bytes"]

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_KIB = 1 << 10
# of a control group: its limit, what it uses, and the entries of memory.stat that are cached files
_VERSION_1 = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)
_VERSION_2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))


def available_bytes(device: torch.device | str) -> int | None:
    """Bytes on the device that this program holds or could get; None where nobody says."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    try:
        machine = _numbers(_PROC / "meminfo")
        free = machine["MemAvailable:"] * _KIB
        swap = machine.get("SwapFree:", 0) * _KIB
        return min(free, *_free_in_groups(free)) + swap + _held()
    except (OSError, KeyError, ValueError):
        return None


def _held() -> int:
    """Bytes of this program that are not of files."""
    status = _numbers(_PROC / "self" / "status")
    return status["RssAnon:"] * _KIB


def _free_in_groups(most: int) -> Iterator[int]:
    """What each control group around this program leaves, and `most`."""
    yield most
    path = _PROC / "self" / "cgroup"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield from _free_upwards(_CGROUPS, group, *_VERSION_2)
        elif "memory" in controllers.split(","):
            yield from _free_upwards(_CGROUPS / "memory", group, *_VERSION_1)


def _free_upwards(
    root: Path, group: str, limit: str, usage: str, cached: tuple[str, ...]
) -> Iterator[int]:
    """Of a group and those above it; a container may see only the last of them."""
    folder = root / group.strip("/")
    for place in (folder, *folder.parents):
        if place.is_relative_to(root) and (place / limit).is_file():
            most = (place / limit).read_text(encoding="ascii").strip()
            if most.isdigit():  # "max" is no limit
                entries = _numbers(place / "memory.stat")
                files = sum(entries.get(name, 0) for name in cached)
                used = int((place / usage).read_text(encoding="ascii"))
                yield max(int(most) - used + files, 0)


def _numbers(path: Path) -> dict[str, int]:
    """The number behind the first word of each line that has one."""
    rows = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}

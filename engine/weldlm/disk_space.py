"""Room on the disk, asked before it is needed."""

import shutil
from pathlib import Path

__all__ = ["require_disk_space"]

_MIB = 1 << 20
_SPARE = 1 << 20  # bytes for manifests, metrics and the like


def require_disk_space(folder: Path, num_bytes: int, what: str) -> None:
    """Refuses to begin what will not fit.

    Args:
        folder: where it is to be written; it need not exist.
        num_bytes: that it takes.
        what: begins the message.

    Raises:
        OSError: the disk has less room.
    """
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if num_bytes + _SPARE > free:
        raise OSError(
            f"{what} takes {num_bytes / _MIB:,.0f} MiB; expected at most the {free / _MIB:,.0f} "
            f"MiB that are free where {folder} lies; free some or choose another out folder"
        )

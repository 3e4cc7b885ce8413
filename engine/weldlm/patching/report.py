"""What a patch did to each module, in words."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from weldlm.patching.installed import uninstall

__all__ = ["Entry", "Report"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One module: its kernel, or why it was kept."""

    path: str  # in the model; empty for the model itself
    class_name: str
    kernel: str | None
    reason: str | None  # why there is none


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a patch; `print` it, or `revert` it."""

    model: Any
    entries: tuple[Entry, ...]
    padding: str  # "packed", or "padded: " and why
    transformers_version: str

    @property
    def kernels(self) -> dict[str, str]:
        """Path -> kernel of every module whose forward was replaced."""
        return {entry.path: entry.kernel for entry in self.entries if entry.kernel is not None}

    @property
    def kept(self) -> dict[str, str]:
        """Path -> reason of every module that was kept."""
        return {entry.path: entry.reason for entry in self.entries if entry.reason is not None}

    def revert(self) -> None:
        """Gives every module its own forward back. Nothing else was changed.

        Raises:
            RuntimeError: somebody has wrapped a replaced forward since; nothing is reverted.
        """
        uninstall(self.model)

    def __str__(self) -> str:
        rows = [
            (_with_stars(entry.path), entry.class_name, entry.kernel or f"kept: {entry.reason}")
            for entry in self.entries
        ]
        counts = Counter(rows)
        widths = [max(map(len, column)) for column in zip(*counts, strict=True)][:2]
        head = f"{type(self.model).__name__}, transformers {self.transformers_version}"
        lines = [f"{head}: {len(self.kernels)} of {len(self.entries)} modules replaced"]
        lines.append(f"sequences: {self.padding}")
        for (path, class_name, outcome), count in counts.items():
            times = f" (x{count})" if count > 1 else ""
            lines.append(f"  {path:<{widths[0]}}  {class_name:<{widths[1]}}  {outcome}{times}")
        return "\n".join(lines)


def _with_stars(path: str) -> str:
    """Layers differ in their number only."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path) or "(model)"

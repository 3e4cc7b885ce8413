"""Files in groups that are read, remembered and read again as one.

Where a group ends is told by the files alone, so that a new file changes only the group that it
falls into, and what was made of the others still holds.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from weldlm.data.sources import SourceFile

__all__ = ["Group", "group_files"]

_END_BYTES = 1 << 24  # a group with as many is full
_MEAN_FILES = 256  # of a group of small files


@dataclass(frozen=True, slots=True)
class Group:
    """Files that follow one another."""

    key: str  # of what they are and how they are read and cleaned
    files: tuple[SourceFile, ...]

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.files)


def group_files(files: Sequence[SourceFile], how: dict[str, Any]) -> list[Group]:
    """Returns the groups.

    Args:
        files: in the order of the corpus.
        how: all that else decides what becomes of them.
    """
    return [Group(_key(group, how), tuple(group)) for group in _cut(files)]


def _cut(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    group: list[SourceFile] = []
    num_bytes = 0
    for file in files:
        if group and file.size >= _END_BYTES:
            yield group
            group, num_bytes = [], 0
        group.append(file)
        num_bytes += file.size
        if num_bytes >= _END_BYTES or _ends(file):
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


def _ends(file: SourceFile) -> bool:
    digest = hashlib.sha256(file.name.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % _MEAN_FILES == 0


def _key(group: Sequence[SourceFile], how: dict[str, Any]) -> str:
    files = [[file.name, file.kind, file.size, file.changed] for file in group]
    content = json.dumps([files, how], sort_keys=True)
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:24]

"""From groups of files to cleaned parts on the disk, going on where an earlier run ended.

A part is written whole or not at all. When all parts of a group are there, a record of the group
is written, and the group is not read again. A group without a record is read again from its start,
and only the parts that are missing are cleaned.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from weldlm.atomic_file import replace_text
from weldlm.data.corpus import Document
from weldlm.data.pipeline.cleaning_pool import CleaningPool, CleaningWay
from weldlm.data.pipeline.groups import Group
from weldlm.data.pipeline.part_file import Part
from weldlm.data.pipeline.settings import DataSettings
from weldlm.data.rows import BadRow
from weldlm.data.sources import read_source

__all__ = ["CleanedParts", "GroupRecord", "Progress", "clean_groups", "has_finished"]

Progress = Callable[[int, int], None]  # takes how much is done, and how much there is to do

_PARTS, _GROUPS = "parts", "groups"  # folders
_MOST_DOCUMENTS = 1 << 16  # of a part
_MOST_NAMED = 1_000  # bad rows of a group that are named


@dataclass(slots=True)
class GroupRecord:
    """What became of a group."""

    num_parts: int = 0
    num_bad: int = 0
    bad: list[BadRow] = field(default_factory=list)  # the first ones

    def add_bad(self, row: BadRow) -> None:
        self.num_bad += 1
        if len(self.bad) < _MOST_NAMED:
            self.bad.append(row)


@dataclass(frozen=True, slots=True)
class CleanedParts:
    """All parts of a corpus in their order, and what could not be read."""

    parts: list[Part]
    records: list[GroupRecord]

    @property
    def num_bad(self) -> int:
        return sum(record.num_bad for record in self.records)

    def bad(self) -> Iterator[BadRow]:
        """The rows that are named."""
        return (row for record in self.records for row in record.bad)


def clean_groups(
    groups: Sequence[Group],
    folder: Path,
    settings: DataSettings,
    way: CleaningWay,
    *,
    num_workers: int,
    progress: Progress | None = None,
) -> CleanedParts:
    """Cleans what is not cleaned yet.

    Args:
        groups: the files.
        folder: keeps the parts from one run to the next.
        settings: how.
        way: how each document is cleaned.
        num_workers: processes that clean.
        progress: takes bytes of files.

    Raises:
        ValueError: something cannot be read, and `settings.on_error` is "stop".
    """
    for name in (_PARTS, _GROUPS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    run, told = _Run(folder, settings), progress or _stay_silent
    done, total = 0, sum(group.num_bytes for group in groups)
    missing = [group for group in groups if run.read_record(group) is None]
    is_small = sum(group.num_bytes for group in missing) <= 2 * settings.part_bytes
    with CleaningPool(way, 1 if is_small else num_workers) as pool:
        for group in groups:
            record = run.read_record(group)
            if record is None:
                run.clean(group, pool, partial(_tell_more, told, done, total))
            elif record.bad and settings.on_error == "stop":
                raise _refusal(record.bad[0])
            done += group.num_bytes
            told(done, total)
        pool.finish()
        run.keep_finished()
    records = [run.read_record(group) or GroupRecord() for group in groups]
    run.remove_others({group.key for group in groups})
    parts = [
        Part(run.part_path(group, index))
        for group, record in zip(groups, records, strict=True)
        for index in range(record.num_parts)
    ]
    return CleanedParts(parts, records)


def has_finished(folder: Path) -> bool:
    """Whether a group is done, which a later run need not read again."""
    return any((folder / _GROUPS).glob("*.json"))


class _Run:
    """The folder of parts, and the groups whose parts are on their way."""

    def __init__(self, folder: Path, settings: DataSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._open: deque[tuple[Group, GroupRecord, list[Future[None]]]] = deque()

    def part_path(self, group: Group, index: int) -> Path:
        return self._folder / _PARTS / f"{group.key}-{index:05d}.npz"

    def read_record(self, group: Group) -> GroupRecord | None:
        try:
            fields = json.loads(self._record_path(group).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return GroupRecord(**{**fields, "bad": [BadRow(**row) for row in fields["bad"]]})

    def clean(self, group: Group, pool: CleaningPool, told: Callable[[int], None]) -> None:
        """Reads a group and has its parts cleaned that are not there."""
        record = GroupRecord()
        futures: list[Future[None]] = []
        documents, read = _read_group(group, self._settings, record), 0
        for index, part in enumerate(_cut(documents, self._settings.part_bytes)):
            path = self.part_path(group, index)
            record.num_parts = index + 1
            read += sum(len(document.text) for document in part)
            told(min(read, group.num_bytes))
            if not path.is_file():
                futures.append(pool.submit(path, part))
                self.keep_finished()
        self._open.append((group, record, futures))

    def keep_finished(self) -> None:
        """Writes the records of groups whose parts are all there."""
        while self._open and all(future.done() for future in self._open[0][2]):
            group, record, futures = self._open.popleft()
            for future in futures:
                future.result()
            replace_text(self._record_path(group), json.dumps(asdict(record)) + "\n")

    def remove_others(self, keys: set[str]) -> None:
        """Removes what was made of files that are gone, or changed, or read in another way."""
        for name in (_PARTS, _GROUPS):
            for path in (self._folder / name).iterdir():
                if path.stem.split("-")[0] not in keys:
                    path.unlink()

    def _record_path(self, group: Group) -> Path:
        return self._folder / _GROUPS / f"{group.key}.json"


def _read_group(group: Group, settings: DataSettings, record: GroupRecord) -> Iterator[Document]:
    for file in group.files:
        for found in read_source(file, settings.reading):
            if isinstance(found, Document):
                yield found
            elif settings.on_error == "stop":
                raise _refusal(found)
            else:
                record.add_bad(found)


def _cut(documents: Iterable[Document], part_bytes: int) -> Iterator[list[Document]]:
    part: list[Document] = []
    size = 0
    for document in documents:
        part.append(document)
        size += len(document.text)
        if size >= part_bytes or len(part) == _MOST_DOCUMENTS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _tell_more(told: Progress, done: int, total: int, more: int) -> None:
    told(done + more, total)


def _stay_silent(_done: int, _total: int) -> None:
    pass


def _refusal(row: BadRow) -> ValueError:
    return ValueError(f"{row} (on_error skip leaves it out)")

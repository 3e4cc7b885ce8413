"""Cleaning on all cores: a process takes a part, cleans it and writes it.

Processes are spawned, ignore Ctrl-C (the one that started them puts things away) and end when that
one dies, also where it was killed.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Self

from weldlm.data.cleaning import Cleaner, CleanSettings, Step, build_steps
from weldlm.data.corpus import Document
from weldlm.data.pipeline.near_duplicates import sign_texts
from weldlm.data.pipeline.part_file import write_part
from weldlm.data.sources import evaluation_files

__all__ = ["CleaningPool", "CleaningWay", "clean_part"]

Evaluation = tuple[tuple[str, int, int], ...]  # name, size and last change of each file

_PACKAGES = ("ftfy", "py3langid", "rensa", "trafilatura")
_WAITING = 2  # parts for each process that are in memory at most


@lru_cache(maxsize=1)
def load_steps(settings: CleanSettings, _evaluation: Evaluation) -> list[Step]:
    """The steps, which a process builds once for evaluation sets in this state."""
    return build_steps(settings)


@dataclass(frozen=True, slots=True)
class CleaningWay:
    """All that decides what becomes of a document."""

    settings: CleanSettings
    evaluation: Evaluation
    is_signed: bool  # texts get signatures, by which near duplicates are found

    @classmethod
    def of(cls, settings: CleanSettings, *, is_signed: bool) -> "CleaningWay":
        """The way with the evaluation sets as they are now.

        Raises:
            FileNotFoundError: one does not exist.
            ModuleNotFoundError: a package that a step needs is not installed.
            ValueError: one cannot be read, or a language is unknown.
        """
        way = cls(settings, _evaluation_state(settings), is_signed)
        load_steps(settings, way.evaluation)
        if is_signed:
            sign_texts([])
        return way

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that have a part in it."""
        return {name: version(name) for name in _PACKAGES if find_spec(name) is not None}


def clean_part(path: Path, documents: Sequence[Document], way: CleaningWay) -> None:
    """Cleans documents and writes what stays to `path`."""
    cleaner = Cleaner(load_steps(way.settings, way.evaluation))
    names: list[str] = []
    texts: list[str] = []
    for document in documents:
        text = cleaner.clean(document)
        if text is not None:
            names.append(document.name)
            texts.append(text)
    write_part(path, names, texts, cleaner.tally, sign_texts(texts) if way.is_signed else None)


class CleaningPool:
    """Takes parts and cleans them; with one worker in this process."""

    def __init__(self, way: CleaningWay, num_workers: int) -> None:
        self._way = way
        self._most = num_workers * _WAITING
        self._waiting: deque[Future[None]] = deque()
        self._pool = None
        if num_workers > 1:
            self._pool = ProcessPoolExecutor(
                num_workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_follow_parent,
            )

    def __enter__(self) -> Self:
        return self

    def submit(self, path: Path, documents: Sequence[Document]) -> Future[None]:
        """Has a part cleaned; waits first where too many are in memory.

        Raises:
            OSError: an earlier one could not be written.
        """
        if self._pool is None:
            done: Future[None] = Future()
            clean_part(path, documents, self._way)
            done.set_result(None)
            return done
        while len(self._waiting) >= self._most:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(clean_part, path, documents, self._way))
        return self._waiting[-1]

    def finish(self) -> None:
        """Waits for all parts."""
        while self._waiting:
            self._waiting.popleft().result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _evaluation_state(settings: CleanSettings) -> Evaluation:
    return tuple(
        (file.name, file.size, file.changed)
        for path in settings.evaluation
        for file in evaluation_files(path)
    )


def _follow_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()

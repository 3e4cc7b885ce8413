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
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Self

from weldlm.data.cleaning import Cleaner, CleanSettings, Step, build_steps
from weldlm.data.corpus import Document
from weldlm.data.pipeline.part_file import write_part
from weldlm.data.sources import evaluation_files

__all__ = ["CleaningPool", "clean_part", "evaluation_state", "load_steps"]

Evaluation = tuple[tuple[str, int, int], ...]  # name, size and last change of each file

_WAITING = 2  # parts for each process that are in memory at most


def evaluation_state(settings: CleanSettings) -> Evaluation:
    """The files of the evaluation sets as they are now.

    Raises:
        FileNotFoundError: one does not exist.
    """
    return tuple(
        (file.name, file.size, file.changed)
        for path in settings.evaluation
        for file in evaluation_files(path)
    )


@lru_cache(maxsize=1)
def load_steps(settings: CleanSettings, _evaluation: Evaluation) -> list[Step]:
    """The steps, which a process builds once for evaluation sets in this state."""
    return build_steps(settings)


def clean_part(
    path: Path, documents: Sequence[Document], settings: CleanSettings, evaluation: Evaluation
) -> None:
    """Cleans documents and writes what stays to `path`."""
    cleaner = Cleaner(load_steps(settings, evaluation))
    names: list[str] = []
    texts: list[str] = []
    for document in documents:
        text = cleaner.clean(document)
        if text is not None:
            names.append(document.name)
            texts.append(text)
    write_part(path, names, texts, cleaner.tally)


class CleaningPool:
    """Takes parts and cleans them; with one worker in this process."""

    def __init__(self, settings: CleanSettings, num_workers: int) -> None:
        self._how = (settings, evaluation_state(settings))
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
            clean_part(path, documents, *self._how)
            done.set_result(None)
            return done
        while len(self._waiting) >= self._most:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(clean_part, path, documents, *self._how))
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


def _follow_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()

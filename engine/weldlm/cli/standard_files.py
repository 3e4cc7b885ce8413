"""Standard input and output in the place of files."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

__all__ = ["as_file", "open_stdout"]

_STANDARD = Path("-")


@contextmanager
def as_file(path: Path, form: str) -> Iterator[Path]:
    """Yields the path, or for "-" a file with all that stdin holds, which is read twice."""
    if path != _STANDARD:
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=f".{form}") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        yield Path(file.name)


@contextmanager
def open_stdout() -> Iterator[FileIO]:
    """Yields stdout without a buffer, so that each row is out when it is done."""
    sys.stdout.flush()
    with FileIO(sys.stdout.fileno(), "w", closefd=False) as file:
        yield file

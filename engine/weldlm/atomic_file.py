"""Files that exist whole or not at all: written aside, synced to the disk, renamed."""

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "DRAFT_SUFFIX",
    "rename_to_new",
    "replace_file",
    "replace_text",
    "require_writable",
    "sync",
]

DRAFT_SUFFIX = ".partial"  # of hidden files and folders that are not finished

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to; the file there becomes `path` when the block ends well.

    `path` is at every moment either the old file or the new one; nothing stays if the block fails.
    It gets the mode that the umask gives, whatever the writer set.

    Raises:
        IsADirectoryError: a folder is there.
        OSError: the file cannot be written, for example because the disk is full.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of a file to write")
    writer = f"{os.getpid()}-{threading.get_ident()}"
    draft = path.with_name(f".{path.name}.{writer}{DRAFT_SUFFIX}")
    try:
        draft.touch()
        mode = stat.S_IMODE(draft.stat().st_mode)
        yield draft
        draft.chmod(mode)
        sync(draft)
        draft.replace(path)
    except OSError as error:
        # of the draft, or of nothing: writing, unlike opening, does not say which file it was
        if error.errno is not None and error.filename in (None, str(draft)):
            error.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8 as `replace_file` does."""
    with replace_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def rename_to_new(path: Path, target: Path) -> None:
    """Renames a file to a name that nothing has, also not since a moment ago.

    Raises:
        FileExistsError: something has it; `path` stays as it is.
    """
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # a file system without links: whoever makes `target` right now is not seen
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        path.rename(target)
    else:
        path.unlink()


def require_writable(folder: Path) -> None:
    """Checks that files can be made in `folder`, before the work that they shall hold.

    Raises:
        PermissionError: they cannot.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{folder} cannot be written to; expected a folder that takes new files; change its "
            "permissions or choose another"
        )


def sync(path: Path) -> None:
    """Makes a file or folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Folders that exist whole or not at all, and say so.

The files are written into a hidden sibling folder, hashed and synced to the disk; a manifest with
their sizes and hashes comes last; one rename puts the folder in its place. A reader that finds the
folder therefore finds all of it, and can prove it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from weldlm.atomic_file import DRAFT_SUFFIX, sync

__all__ = [
    "Draft",
    "check_hashes",
    "check_sizes",
    "lock_file",
    "lock_folder",
    "read_manifest",
    "remove_drafts",
    "remove_folder",
    "replace_folder",
    "seal_folder",
]

MANIFEST = "manifest.json"
_CHUNK_BYTES = 1 << 20
_REMEDY = "restore it from a copy, or remove the folder to have it made again"


@dataclass(slots=True)
class Draft:
    """A folder on its way: files go to `path`, what the manifest shall say besides to `about`."""

    path: Path
    about: dict[str, Any] = field(default_factory=dict)


@contextmanager
def seal_folder(folder: Path, *, replace: bool = False) -> Iterator[Draft]:
    """Yields a draft that becomes `folder` when the block ends; nothing stays if it fails.

    Args:
        folder: must not exist, unless `replace` is set.
        replace: an old folder of that name gives way in the end.

    Raises:
        FileExistsError: the folder exists.
        OSError: it cannot be written, for example because the disk is full.
    """
    if folder.exists() and not replace:
        raise FileExistsError(f"{folder} exists; remove it or choose another folder")
    with replace_folder(folder) as path:
        draft = Draft(path)
        yield draft
        _write_manifest(draft)


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to write to; it becomes `folder` when the block ends, without a manifest.

    An old folder of that name gives way in the end; it stays if the block fails.

    Raises:
        OSError: it cannot be written, for example because the disk is full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = _hidden(folder, DRAFT_SUFFIX)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        for path in (draft, *draft.rglob("*")):
            sync(path)
        _move_into_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keeps other programs that lock `folder` out until the block ends or the program dies.

    A folder that is made for it goes again if the block leaves it empty.

    Raises:
        BlockingIOError: another program holds the lock.
    """
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with path.open("w") as file:
        _lock(file, folder)
        try:
            yield
        finally:
            if is_new and list(folder.iterdir()) == [path]:
                path.unlink()
                folder.rmdir()


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Keeps other programs that lock `path` out until the block ends or the program dies.

    The lock is a hidden file beside it, which goes with the block.

    Raises:
        BlockingIOError: another program holds the lock.
    """
    lock = _hidden(path, ".lock")
    with lock.open("w") as file:
        _lock(file, path)
        # one who held it may have removed it after we opened it
        if not lock.exists() or not os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            raise _in_use(path)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Removes a folder so that a kill on the way leaves no part of it under its name."""
    hidden = _hidden(folder, f".old{DRAFT_SUFFIX}")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden)


def remove_drafts(parent: Path) -> None:
    """Removes what interrupted writers left behind in `parent`; nobody may be writing there."""
    for path in parent.glob(f".*{DRAFT_SUFFIX}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Reads what `seal_folder` wrote.

    Raises:
        FileNotFoundError: there is no such folder, or no manifest in it.
        ValueError: the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        is_there = folder.is_dir()
        what = "does not exist" if is_there else "cannot be read: there is no such folder"
        remedy = _REMEDY if is_there else "check the path, or restore the folder from a copy"
        raise FileNotFoundError(
            f"{path} {what}; expected a folder that was written completely; {remedy}"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for name, entry in manifest["files"].items():
            if not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
                raise TypeError(f"entry {name!r}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected a manifest in JSON; {_REMEDY}"
        ) from error
    return dict(manifest)


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Compares the size of every file with the manifest.

    Raises:
        ValueError: a file is missing or has another size.
    """
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; expected {entry['bytes']} bytes; {_REMEDY}")
        found = path.stat().st_size
        if found != entry["bytes"]:
            raise ValueError(
                f"{path} has {found} bytes; expected {entry['bytes']}: it is damaged; {_REMEDY}"
            )


def check_hashes(folder: Path, manifest: dict[str, Any]) -> None:
    """Reads every file and compares it with the manifest.

    Raises:
        ValueError: a file is missing or differs.
    """
    check_sizes(folder, manifest)
    for name, entry in manifest["files"].items():
        found = _sha256(folder / name)
        if found != entry["sha256"]:
            raise ValueError(
                f"{folder / name} has SHA-256 {found[:12]}...; "
                f"expected {entry['sha256'][:12]}...: it is damaged; {_REMEDY}"
            )


def _write_manifest(draft: Draft) -> None:
    files = {}
    for path in sorted(path for path in draft.path.rglob("*") if path.is_file()):
        name = path.relative_to(draft.path).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
    manifest = draft.path / MANIFEST
    text = json.dumps({**draft.about, "files": files}, indent=2) + "\n"
    manifest.write_text(text, encoding="utf-8")
    mode = stat.S_IMODE(manifest.stat().st_mode)  # as the umask gives it; some writers do not ask
    for name in files:
        (draft.path / name).chmod(mode)


def _move_into_place(draft: Path, folder: Path) -> None:
    old = _hidden(folder, f".old{DRAFT_SUFFIX}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _lock(file: IO[str], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(path) from error


def _in_use(path: Path) -> BlockingIOError:
    return BlockingIOError(
        f"{path} is in use by another program; wait for it or choose another path"
    )


def _hidden(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}{suffix}")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()

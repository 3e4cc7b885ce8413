"""Compiled vocabularies in the user's cache folder, mapped into memory where they are read again.

A file is named by the hash of what it was made from: the bytes of the tokenizer's files, the
settings beside them and this package. It holds a checksum, the parts without their tokens as a
pickle that may name nothing but the classes of parts, and the C++ tables, which are used in place:
processes share their memory. Files are written aside and renamed; one that is damaged or cannot be
written is as good as none. The oldest go when there are too many.
"""

import hashlib
import importlib
import io
import json
import logging
import mmap
import os
import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from weldlm import _tokenizer
from weldlm.atomic_file import replace_file
from weldlm.tokenizer.compiled import Compiled, compile_parts
from weldlm.tokenizer.parts import TokenizerParts
from weldlm.tokenizer.tokenizer_config import TokenizerConfig

__all__ = ["cache_folder", "read_compiled"]

Settings = Mapping[str, object]
Reader = Callable[[Path, Settings], tuple[TokenizerParts, TokenizerConfig]]

_log = logging.getLogger(__name__)

_HEAD = struct.Struct("<16sQ")  # what it is, and the checksum of all behind
_MAGIC = b"weldlm vocab 1\0\0"
_SIZE = struct.Struct("<Q")  # of a block
_ALIGNMENT = 64
_ENDING = ".vocabulary"
_MOST_FILES = 16
_LEAST_BYTES = 1 << 18  # smaller files are read as fast
_MOST_BYTES = 1 << 26  # larger ones hold more than a tokenizer, and hashing them takes longer


def cache_folder() -> Path:
    """Where the files are kept; it need not exist.

    Raises:
        RuntimeError: there is no home folder.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "weldlm" / "vocabularies"


def read_compiled(
    path: Path, settings: Settings, read: Reader, *, key: str = ""
) -> tuple[Compiled, TokenizerConfig]:
    """What `read` gives for the file, compiled; from the cache where it is there.

    Args:
        key: tells readers apart that make different things of one file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or asks for what this package does not do.
    """
    cached = _cached_path(path, settings, key)
    found = None if cached is None else _load(cached)
    if found is not None:
        return found
    parts, config = read(path, settings)
    compiled = compile_parts(parts)
    if cached is not None:
        _store(cached, compiled, config)
    return compiled, config


def _cached_path(path: Path, settings: Settings, key: str) -> Path | None:
    """None where the file is not worth it or there is no folder."""
    try:
        if not path.is_file():
            return None
        # vocab.json and merges.txt belong together
        beside = (path.with_name(name) for name in ("merges.txt", "vocab.json"))
        sources = [path, *(other for other in beside if other != path and other.is_file())]
        if not _LEAST_BYTES <= sum(source.stat().st_size for source in sources) <= _MOST_BYTES:
            return None
        digest = hashlib.sha256(_program())
        digest.update(json.dumps([path.name, settings, key], sort_keys=True).encode())
        for source in sources:
            digest.update(hashlib.sha256(source.read_bytes()).digest())
        return cache_folder() / f"{digest.hexdigest()[:40]}{_ENDING}"
    except (OSError, RuntimeError) as error:
        _log.debug("no cache of %s: %s", path, error)
        return None


@cache
def _program() -> bytes:
    """Tells this package from any other version of it."""
    package = Path(__file__).parents[1]
    modules = sorted([*package.glob("*.py"), *package.glob("tokenizer/*.py")])
    files = [*modules, Path(_tokenizer.__file__)]
    marks = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return repr((sys.byteorder, np.dtype(np.uintp).itemsize, marks)).encode()


def _load(cached: Path) -> tuple[Compiled, TokenizerConfig] | None:
    try:
        with cached.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        magic, checksum = _HEAD.unpack_from(data)
        if magic != _MAGIC or _tokenizer.image_checksum(data[_HEAD.size :]) != checksum:
            raise ValueError("the checksum is wrong")
        skeleton, image, *arrays = _blocks(data)
        parts, config, has_model = _Unpickler(io.BytesIO(skeleton), arrays).load()
        vocabulary, decoder, model = _tokenizer.read_image(image, has_model)
        built = parts.model.build(vocabulary) if model is None else model
        return Compiled(parts, vocabulary, decoder, built), config
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged file leads to
        _log.debug("%s is left aside: %s", cached, error)
        return None


def _store(cached: Path, compiled: Compiled, config: TokenizerConfig) -> None:
    model = compiled.model if isinstance(compiled.model, _tokenizer.ByteBpe) else None
    try:
        skeleton = io.BytesIO()
        pickler = _Pickler(skeleton)
        pickler.dump((replace(compiled.parts, tokens=[]), config, model is not None))
        image = _tokenizer.write_image(compiled.vocabulary, compiled.decoder, model)
        data = _packed([skeleton.getvalue(), image, *pickler.arrays])
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(cached) as draft:
            draft.write_bytes(data)
        kept = sorted(cached.parent.glob(f"*{_ENDING}"), key=lambda file: file.stat().st_mtime)
        for old in kept[:-_MOST_FILES]:
            old.unlink(missing_ok=True)
    except (OSError, pickle.PicklingError) as error:
        _log.debug("%s is not written: %s", cached, error)


def _packed(blocks: list[bytes]) -> bytes:
    """The blocks, each at an aligned place behind its size."""
    body = bytearray()
    for block in blocks:
        body += bytes(-(_HEAD.size + len(body) + _SIZE.size) % _ALIGNMENT)
        body += _SIZE.pack(len(block)) + block
    return _HEAD.pack(_MAGIC, _tokenizer.image_checksum(bytes(body))) + bytes(body)


def _blocks(data: memoryview) -> list[memoryview]:
    blocks = []
    place = _HEAD.size
    while place + _SIZE.size <= len(data):
        place += -(place + _SIZE.size) % _ALIGNMENT
        (size,) = _SIZE.unpack_from(data, place)
        place += _SIZE.size
        blocks.append(data[place : place + size])
        place += size
    return blocks


class _Pickler(pickle.Pickler):
    """Leaves arrays to blocks of their own."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.arrays: list[bytes] = []

    def persistent_id(self, value: object) -> tuple[int, str, tuple[int, ...]] | None:
        if not isinstance(value, np.ndarray):
            return None
        self.arrays.append(value.tobytes())
        return len(self.arrays) - 1, value.dtype.str, value.shape


class _Unpickler(pickle.Unpickler):
    """Makes parts of tokenizers and nothing else."""

    def __init__(self, file: io.BytesIO, arrays: list[memoryview]) -> None:
        super().__init__(file)
        self._arrays = arrays

    def persistent_load(self, name: tuple[int, str, tuple[int, ...]]) -> np.ndarray[Any, Any]:
        index, dtype, shape = name
        return np.frombuffer(self._arrays[index], dtype=dtype).reshape(shape)

    def find_class(self, module: str, name: str) -> type:
        if module.startswith("weldlm.tokenizer."):
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type) and is_dataclass(found):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tokenizer")

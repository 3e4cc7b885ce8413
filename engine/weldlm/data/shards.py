"""Token shards: documents as token ids on the disk, read through the page cache.

A folder holds `tokens-00000.bin` and so on (ids end to end, uint16 or uint32, little endian),
`offsets.bin` (int64, where each document starts in the whole stream) and `manifest.json`.
No document lies across two files.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from weldlm.sealed_folder import check_hashes, check_sizes, read_manifest, seal_folder

__all__ = ["ShardWriter", "TokenShards", "create_shards", "token_dtype", "write_shards"]

Ints = npt.NDArray[np.int64]

_KIND = "weldlm token shards"
_VERSION = 1
_OFFSETS = "offsets.bin"
_DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
_MAX_VOCAB_SIZE = 1 << 32
_GROUP_DOCUMENTS = 4_096
_GROUP_TOKENS = 1 << 20


class ShardWriter:
    """Appends documents to the shards that `create_shards` opened."""

    def __init__(self, path: Path, *, vocab_size: int, tokens_per_file: int) -> None:
        self.num_documents = 0
        self.num_tokens = 0
        self._path = path
        self._vocab_size = vocab_size
        self._tokens_per_file = tokens_per_file
        self._dtype = _name_dtype(vocab_size)
        self._file: BinaryIO | None = None
        self._source_bytes: int | None = 0
        self._tokens_in_files: list[int] = []
        self._files = ExitStack()
        self._offsets = self._files.enter_context((path / _OFFSETS).open("wb"))
        self._offsets.write(np.zeros(1, dtype="<i8").tobytes())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the ids in the files; ids that have it are written without a copy."""
        return _DTYPES[self._dtype]

    def add(
        self,
        ids: npt.ArrayLike,
        lengths: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
        *,
        source_bytes: int | None = None,
    ) -> None:
        """Appends documents; those of one call go to one file.

        Args:
            ids: [T] integers, the documents end to end.
            lengths: [B], tokens of each document; one document where None.
            source_bytes: size of the text they were made from; left out once, it is unknown.

        Raises:
            ValueError: an id is outside the vocabulary, or the lengths do not sum to T.
        """
        tokens = np.asarray(ids)
        sizes = np.asarray([tokens.size] if lengths is None else lengths, dtype=np.int64)
        self._check(tokens, sizes)
        if tokens.size:
            self._write(tokens)
        self._count(sizes, source_bytes)

    def add_file(
        self, path: Path, lengths: npt.NDArray[np.integer[Any]], *, source_bytes: int
    ) -> None:
        """Takes a file of ids as `add` writes them, by a link where the disk allows one.

        Args:
            path: ids of the type `token_dtype`, end to end.
            lengths: [B], tokens of each document in it.
            source_bytes: size of the text they were made from.

        Raises:
            ValueError: the lengths do not sum to what the file holds.
        """
        num_tokens = path.stat().st_size // self.dtype.itemsize
        if lengths.sum() != num_tokens:
            raise ValueError(f"lengths sum to {lengths.sum()}; expected {num_tokens}, as in {path}")
        if num_tokens:  # an empty file cannot be mapped
            _link(path, self._next_file())
            self._file = None
            self._tokens_in_files.append(num_tokens)
        self._count(lengths.astype(np.int64), source_bytes)

    def close(self) -> dict[str, Any]:
        """Closes the files and returns what the manifest says about them."""
        self._files.close()
        return {
            "kind": _KIND,
            "version": _VERSION,
            "dtype": self._dtype,
            "vocab_size": self._vocab_size,
            "num_documents": self.num_documents,
            "num_tokens": self.num_tokens,
            "tokens_in_files": self._tokens_in_files,
            "source_bytes": self._source_bytes,
        }

    def _count(self, sizes: Ints, source_bytes: int | None) -> None:
        self._offsets.write((np.cumsum(sizes) + self.num_tokens).astype("<i8").tobytes())
        self.num_tokens += int(sizes.sum())
        self.num_documents += sizes.size
        if self._source_bytes is not None:
            self._source_bytes = None if source_bytes is None else self._source_bytes + source_bytes

    def _write(self, tokens: npt.NDArray[Any]) -> None:
        if self._file is None or self._tokens_in_files[-1] >= self._tokens_per_file:
            self._file = self._files.enter_context(self._next_file().open("wb"))
            self._tokens_in_files.append(0)
        self._file.write(np.ascontiguousarray(tokens, dtype=self.dtype).data)
        self._tokens_in_files[-1] += tokens.size

    def _next_file(self) -> Path:
        return self._path / f"tokens-{len(self._tokens_in_files):05d}.bin"

    def _check(self, tokens: npt.NDArray[Any], sizes: Ints) -> None:
        if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
            raise ValueError(
                f"ids have shape {tokens.shape} and dtype {tokens.dtype}; expected [T] integers"
            )
        if sizes.ndim != 1 or (sizes < 0).any() or sizes.sum() != tokens.size:
            raise ValueError(f"lengths {sizes.shape} sum to {sizes.sum()}; expected {tokens.size}")
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self._vocab_size:
            is_wrong = (tokens < 0) | (tokens >= self._vocab_size)
            where = int(is_wrong.argmax())
            document = self.num_documents + int(np.searchsorted(np.cumsum(sizes), where, "right"))
            raise ValueError(
                f"document {document} holds the id {tokens[where]}; expected 0 to "
                f"{self._vocab_size - 1}: was it encoded with another tokenizer?"
            )


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Returns the type of the ids in the files: two bytes up to 65,536 of them, else four."""
    return _DTYPES[_name_dtype(vocab_size)]


@contextmanager
def create_shards(
    folder: str | Path, *, vocab_size: int, tokens_per_file: int = 1 << 30
) -> Iterator[ShardWriter]:
    """Yields a writer; the folder appears when the block ends without an error.

    Args:
        folder: must not exist.
        vocab_size: ids are below it; up to 65,536 they take two bytes, else four.
        tokens_per_file: a file is closed once it holds as many.

    Raises:
        FileExistsError: the folder exists.
        ValueError: there is no token.
    """
    if not 1 <= vocab_size <= _MAX_VOCAB_SIZE:
        raise ValueError(f"vocab_size is {vocab_size}; expected 1 to {_MAX_VOCAB_SIZE}")
    if tokens_per_file < 1:
        raise ValueError(f"tokens_per_file is {tokens_per_file}; expected at least 1")
    with seal_folder(Path(folder)) as draft:
        writer = ShardWriter(draft.path, vocab_size=vocab_size, tokens_per_file=tokens_per_file)
        try:
            yield writer
        finally:
            draft.about.update(writer.close())
        if writer.num_tokens == 0:
            raise ValueError(f"{folder}: the documents hold no token; expected at least one")


def write_shards(
    folder: str | Path,
    documents: Iterable[npt.ArrayLike],
    *,
    vocab_size: int,
    source_bytes: int | None = None,
    tokens_per_file: int = 1 << 30,
) -> "TokenShards":
    """Writes `documents`, each [T] integers, and opens the result.

    Args:
        folder: must not exist.
        documents: consumed once, a few thousand at a time.
        vocab_size: ids are below it; up to 65,536 they take two bytes, else four.
        source_bytes: size of the text they were made from, for bits per byte.
        tokens_per_file: a file is closed once it holds as many.

    Raises:
        FileExistsError: the folder exists.
        ValueError: there is no token, or an id is outside the vocabulary.
    """
    with create_shards(folder, vocab_size=vocab_size, tokens_per_file=tokens_per_file) as writer:
        for group in _groups(documents, min(tokens_per_file, _GROUP_TOKENS)):
            lengths = [len(document) for document in group]
            writer.add(np.concatenate(group), lengths, source_bytes=0)
        writer.add([], [], source_bytes=source_bytes)
    return TokenShards.open(folder)


class TokenShards:
    """Memory-mapped documents; made by `TokenShards.open`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        tokens_in_files: list[int] = manifest["tokens_in_files"]
        self.folder = folder
        self._is_verified = False
        self.vocab_size: int = manifest["vocab_size"]
        self.num_documents: int = manifest["num_documents"]
        self.num_tokens: int = manifest["num_tokens"]
        self.source_bytes: int | None = manifest["source_bytes"]
        self.fingerprint = _fingerprint(manifest)
        self.offsets: Ints = _mapped(folder / _OFFSETS, np.dtype("<i8"))  # [N + 1]
        dtype = _DTYPES[manifest["dtype"]]
        self._files = [
            _mapped(folder / f"tokens-{index:05d}.bin", dtype)
            for index in range(len(tokens_in_files))
        ]
        self._file_starts = np.cumsum([0, *tokens_in_files[:-1]], dtype=np.int64)
        if (
            len(self.offsets) != self.num_documents + 1
            or self.offsets[-1] != self.num_tokens
            or [len(file) for file in self._files] != tokens_in_files
        ):
            raise ValueError(f"{folder}: the manifest does not fit the files; write them again")

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = False) -> "TokenShards":
        """Opens a folder that `write_shards` wrote.

        Args:
            folder: holds manifest.json, offsets.bin and the token files.
            verify: also read everything and compare its hashes.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: it holds something else, or a file is damaged.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        if manifest.get("kind") != _KIND or manifest.get("version") != _VERSION:
            raise ValueError(
                f"{folder} holds {manifest.get('kind', 'something else')!r}, version "
                f"{manifest.get('version')}; expected {_KIND!r}, version {_VERSION}"
            )
        check_sizes(folder, manifest)
        try:
            shards = cls(folder, manifest)
        except (KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"{folder}: the manifest does not fit the files ({error!r}); write them again"
            ) from error
        if verify:
            shards.verify()
        return shards

    def verify(self) -> None:
        """Reads every file and compares its hash, once for these shards.

        Raises:
            ValueError: a file is damaged.
        """
        if not self._is_verified:
            check_hashes(self.folder, read_manifest(self.folder))
            self._is_verified = True

    @property
    def lengths(self) -> Ints:
        """[N], tokens of each document."""
        return np.diff(self.offsets)

    @property
    def tokens_per_byte(self) -> float | None:
        """Tokens for each byte of source text, where its size is known."""
        return self.num_tokens / self.source_bytes if self.source_bytes else None

    def document(self, index: int) -> Ints:
        """Returns the ids of one document, [T] int64."""
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index}; there are {self.num_documents}")
        start, end = self.offsets[index : index + 2]
        return self.gather(np.array([start]), np.array([end - start]))

    def gather(self, starts: Ints, lengths: Ints) -> Ints:
        """Returns pieces of the stream end to end, [sum of lengths] int64.

        Args:
            starts: [P], place of each piece in the stream; no piece leaves its document.
            lengths: [P], tokens of each piece.
        """
        files = np.searchsorted(self._file_starts, starts, side="right") - 1
        sources = starts - self._file_starts[files]
        ids = np.empty(int(lengths.sum()), dtype=np.int64)
        place = 0
        for file, source, length in zip(
            files.tolist(), sources.tolist(), lengths.tolist(), strict=True
        ):
            ids[place : place + length] = self._files[file][source : source + length]
            place += length
        return ids


def _name_dtype(vocab_size: int) -> str:
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(path, target)


def _groups(
    documents: Iterable[npt.ArrayLike], num_tokens: int
) -> Iterator[list[npt.NDArray[Any]]]:
    """Collects documents until they hold `num_tokens`, so that each write is worth its cost."""
    group: list[npt.NDArray[Any]] = []
    waiting = 0
    for index, document in enumerate(documents):
        ids = np.asarray(document)
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError(
                f"document {index} has shape {ids.shape} and dtype {ids.dtype}; "
                "expected [T] integers"
            )
        group.append(ids if ids.size else ids.astype(np.uint8))
        waiting += ids.size
        if waiting >= num_tokens or len(group) == _GROUP_DOCUMENTS:
            yield group
            group, waiting = [], 0
    if group:
        yield group


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The file as a plain array, whose slices cost less than those of a memmap."""
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def _fingerprint(manifest: dict[str, Any]) -> str:
    """Names the content: what the ids mean and the hash of every file."""
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    content = json.dumps([manifest["dtype"], manifest["vocab_size"], hashes], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()

"""Token ids of the selected documents, in files that are made once and kept.

A file is named by a hash of all that it is made of: the texts' hashes, the tokenizer, the frame.
A run that is killed or that comes back with more texts makes only the files that are missing.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weldlm.atomic_file import replace_file
from weldlm.data.corpus import Document
from weldlm.data.pipeline.part_file import Part
from weldlm.data.pipeline.selection import Flags, Selection
from weldlm.data.prepare import encode_framed, hold_out
from weldlm.data.shards import create_shards, token_dtype
from weldlm.sealed_folder import read_manifest
from weldlm.tokenizer import Tokenizer

__all__ = ["Encoding", "TokenFile", "encode_split", "selected_texts", "write_split"]

_BATCH_DOCUMENTS = 512
_BATCH_CHARACTERS = 1 << 23
_MEAN_PARTS, _MOST_PARTS = 16, 64  # in a file


@dataclass(frozen=True, slots=True)
class Encoding:
    """How texts become ids."""

    tokenizer: Tokenizer
    fingerprint: str  # of the tokenizer
    has_frame: bool  # each document stands between two end-of-text ids
    held_out: float  # share of a single document


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Ids of documents end to end."""

    path: Path
    lengths: npt.NDArray[np.int64]  # [B]
    source_bytes: int
    sha256: str


def selected_texts(
    selection: Selection, flags: Flags, indices: Iterable[int], held_out: float
) -> Iterator[str]:
    """Yields the texts of some parts that `flags` choose, which are those of one side.

    A single document is cut near its end: both sides have a piece of it.
    """
    if selection.is_one_document and held_out:
        both = selection.is_train | selection.is_valid
        is_train = flags is selection.is_train
        for index in indices:
            for text in selection.parts[index].texts(selection.of_part(both, index)):
                head, tail = hold_out([Document("", text)], held_out)
                yield from (document.text for document in (head if is_train else tail))
        return
    for index in indices:
        yield from selection.parts[index].texts(selection.of_part(flags, index))


def encode_split(
    selection: Selection, flags: Flags, encoding: Encoding, folder: Path
) -> Iterator[TokenFile]:
    """Yields the files of one side in their order, after making those that are missing.

    Args:
        selection: the documents.
        flags: the side, `selection.is_train` or `selection.is_valid`.
        encoding: how.
        folder: keeps the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for indices in _runs(selection.parts):
        texts = selected_texts(selection, flags, indices, encoding.held_out)
        key = _key(selection, flags, indices, encoding)
        found = _read(folder, key)
        if found is None:
            found = _encode(texts, encoding, folder, key)
        if len(found.lengths):
            yield found


def write_split(folder: Path, files: Iterable[TokenFile], vocab_size: int) -> None:
    """Writes shards of files that `encode_split` made.

    Raises:
        ValueError: a file was changed since.
    """
    taken: list[TokenFile] = []
    with create_shards(folder, vocab_size=vocab_size) as writer:
        for file in files:
            writer.add_file(file.path, file.lengths, source_bytes=file.source_bytes)
            taken += [file] if file.lengths.sum() else []
    entries = read_manifest(folder)["files"]
    for index, file in enumerate(taken):
        if entries[f"tokens-{index:05d}.bin"]["sha256"] != file.sha256:
            file.path.unlink()
            raise ValueError(f"{file.path} was damaged; it is removed; give the same command again")


def _runs(parts: Sequence[Part]) -> Iterator[range]:
    """Cuts the parts into files at places that only the parts themselves tell."""
    begin = 0
    for index, part in enumerate(parts):
        end = index + 1
        if _ends(part) or end - begin == _MOST_PARTS or end == len(parts):
            yield range(begin, end)
            begin = end


def _ends(part: Part) -> bool:
    digest = hashlib.sha256(part.digests.tobytes()).digest()
    return int.from_bytes(digest[:8], "big") % _MEAN_PARTS == 0


def _key(selection: Selection, flags: Flags, indices: range, encoding: Encoding) -> str:
    about: list[Any] = [encoding.fingerprint, encoding.has_frame]
    if selection.is_one_document and encoding.held_out:
        about += ["head" if flags is selection.is_train else "tail", encoding.held_out]
        flags = selection.is_train | selection.is_valid
    digest = hashlib.sha256(json.dumps(about).encode())
    for index in indices:
        digest.update(selection.parts[index].digests[selection.of_part(flags, index)].tobytes())
    return digest.hexdigest()[:32]


def _read(folder: Path, key: str) -> TokenFile | None:
    path = folder / f"{key}.bin"
    if not path.is_file():
        return None
    with np.load(folder / f"{key}.npz") as arrays:
        return TokenFile(
            path, arrays["lengths"], int(arrays["source_bytes"]), str(arrays["sha256"])
        )


def _encode(texts: Iterable[str], encoding: Encoding, folder: Path, key: str) -> TokenFile:
    path = folder / f"{key}.bin"
    dtype = token_dtype(encoding.tokenizer.vocab_size)
    lengths = [np.empty(0, np.int64)]
    source_bytes, digest = 0, hashlib.sha256()
    with replace_file(path) as draft:
        with draft.open("wb") as file:
            for batch in _batches(texts):
                framed = encode_framed(
                    batch, encoding.tokenizer, dtype, has_frame=encoding.has_frame
                )
                ids = np.ascontiguousarray(framed.ids, dtype).data
                file.write(ids)
                digest.update(ids)
                lengths.append(np.diff(framed.offsets))
                source_bytes += sum(len(text.encode()) for text in batch)
        made = TokenFile(path, np.concatenate(lengths), source_bytes, digest.hexdigest())
        with replace_file(folder / f"{key}.npz") as about, about.open("wb") as file:
            np.savez(file, lengths=made.lengths, source_bytes=made.source_bytes, sha256=made.sha256)
    return made


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == _BATCH_DOCUMENTS or size >= _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

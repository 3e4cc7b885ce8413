"""A part of the cleaned corpus on the disk: texts, their hashes, and what cleaning did."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weldlm.atomic_file import replace_file
from weldlm.data.cleaning import Tally

__all__ = ["Part", "write_part"]

Words = npt.NDArray[np.uint64]

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was written; arrays are read when asked for."""

    path: Path

    @property
    def digests(self) -> Words:
        """[N, 2], a hash of each text."""
        return self._array("digests")

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """[N], bytes of each text."""
        return self._array("sizes")

    @property
    def signatures(self) -> npt.NDArray[np.uint32]:
        """[N, K], MinHash of each text; K is 0 where nobody asks for it."""
        return self._array("signatures")

    @property
    def tally(self) -> Tally:
        return Tally.from_json(json.loads(bytes(self._array("tally"))))

    def names(self) -> list[str]:
        """Of the documents."""
        names: list[str] = json.loads(bytes(self._array("names")))
        return names

    def texts(self, is_chosen: npt.NDArray[np.bool_]) -> Iterator[str]:
        """Yields the texts that are chosen, [N]."""
        content = self._array("text").data
        sizes = self.sizes
        starts = np.cumsum(sizes) - sizes
        for index in np.flatnonzero(is_chosen):
            start = int(starts[index])
            yield str(content[start : start + int(sizes[index])], "utf-8")

    def _array(self, name: str) -> npt.NDArray[Any]:
        with np.load(self.path) as arrays:
            array: npt.NDArray[Any] = arrays[name]
        return array


def write_part(
    path: Path,
    names: Sequence[str],
    texts: Sequence[str],
    tally: Tally,
    signatures: npt.NDArray[np.uint32] | None = None,
) -> Part:
    """Writes a part; it exists whole or not at all.

    Raises:
        OSError: it cannot be written, for example because the disk is full.
    """
    encoded = [text.encode() for text in texts]
    hashes = b"".join(blake2b(text, digest_size=_DIGEST_BYTES).digest() for text in encoded)
    arrays: dict[str, Any] = {
        "text": np.frombuffer(b"".join(encoded), np.uint8),
        "sizes": np.array([len(text) for text in encoded], np.int64),
        "digests": np.frombuffer(hashes, ">u8").astype(np.uint64).reshape(-1, 2),
        "signatures": np.empty((len(texts), 0), np.uint32) if signatures is None else signatures,
        "names": _json(list(names)),
        "tally": _json(tally.to_json()),
    }
    with replace_file(path) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)
    return Part(path)


def _json(value: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)

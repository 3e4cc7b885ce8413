"""BlockPool: who holds which block of a paged cache, without a look at what lies in it.

A block is held by as many sequences as its count says. One that is full may be published under a
key, the hash of all tokens up to its end; a later sequence that begins with the same tokens takes
it over instead of computing them again (Kwon et al. 2023, arXiv:2309.06180). A published block that
nobody holds stays until its place is needed; of those the one that was let go first is evicted.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

__all__ = ["BlockKey", "BlockPool", "OutOfBlocks", "block_keys", "root_key"]

_DIGEST_SIZE = 16


class OutOfBlocks(Exception):  # noqa: N818 - no error: the scheduler makes room and goes on
    """Every block is held."""


@dataclass(frozen=True, slots=True)
class BlockKey:
    """What a full block holds: some tokens behind all those that stand before them."""

    digest: bytes  # of the key before this one and of the tokens
    tokens: bytes  # compared on a hit, so that two texts with one digest are never mixed up


def root_key(*identity: str) -> bytes:
    """What the keys of all sequences begin with that may share blocks.

    Args:
        identity: everything besides the tokens that keys and values depend on: the adapter, what
            an encoder has read, the dtype of the cache.
    """
    digest = blake2b(digest_size=_DIGEST_SIZE)
    for part in identity:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.digest()


def block_keys(
    ids: Sequence[int], block_size: int, *, parent: bytes, start: int = 0
) -> Iterator[BlockKey]:
    """Yields the keys of the full blocks of `ids` from block `start` on, which follows `parent`."""
    for begin in range(start * block_size, len(ids) - block_size + 1, block_size):
        tokens = np.asarray(ids[begin : begin + block_size], dtype=np.int32).tobytes()
        parent = blake2b(parent + tokens, digest_size=_DIGEST_SIZE).digest()
        yield BlockKey(parent, tokens)


class BlockPool:
    """`num_blocks` blocks and how many sequences hold each."""

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 1:
            raise ValueError(f"num_blocks is {num_blocks}; expected at least 1")
        self.num_blocks = num_blocks
        self._counts = [0] * num_blocks
        self._keys: list[BlockKey | None] = [None] * num_blocks
        self._published: dict[bytes, int] = {}  # digest -> block
        self._unused = list(range(num_blocks - 1, -1, -1))
        self._kept: OrderedDict[int, None] = OrderedDict()  # published, not held, oldest first

    @property
    def num_free(self) -> int:
        """Number of blocks that `take` could give."""
        return len(self._unused) + len(self._kept)

    @property
    def num_held(self) -> int:
        return self.num_blocks - self.num_free

    @property
    def num_kept(self) -> int:
        """Number of published blocks that nobody holds."""
        return len(self._kept)

    def count(self, block: int) -> int:
        """Number of sequences that hold `block`."""
        return self._counts[block]

    def take(self) -> int:
        """Gives an empty block to one sequence.

        Raises:
            OutOfBlocks: all are held.
        """
        if self._unused:
            block = self._unused.pop()
        elif self._kept:
            block, _ = self._kept.popitem(last=False)
            self._forget(block)
        else:
            raise OutOfBlocks
        self._counts[block] = 1
        return block

    def share(self, block: int) -> None:
        """Lets one more sequence hold a block that others hold."""
        self._require_held(block)
        self._counts[block] += 1

    def release(self, block: int) -> None:
        """Takes `block` from one of its sequences."""
        self._require_held(block)
        self._counts[block] -= 1
        if self._counts[block] == 0:
            if self._keys[block] is None:
                self._unused.append(block)
            else:
                self._kept[block] = None

    def publish(self, block: int, key: BlockKey) -> None:
        """Lets later sequences find a full block; nothing happens where its like is published."""
        self._require_held(block)
        if key.digest not in self._published and self._keys[block] is None:
            self._published[key.digest] = block
            self._keys[block] = key

    def find(self, key: BlockKey) -> int | None:
        """Gives the block published under `key` to one more sequence; None if there is none."""
        block = self._published.get(key.digest)
        if block is None or self._keys[block] != key:
            return None
        self._kept.pop(block, None)
        self._counts[block] += 1
        return block

    def _forget(self, block: int) -> None:
        key = self._keys[block]
        assert key is not None
        del self._published[key.digest]
        self._keys[block] = None

    def _require_held(self, block: int) -> None:
        if not 0 <= block < self.num_blocks or self._counts[block] == 0:
            raise ValueError(
                f"block {block} is held by nobody; expected one that take or find has given out"
            )

"""BlockPool against a model of it that keeps everything it was told: no leak, no double free."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from weldlm.block_pool import BlockKey, BlockPool, OutOfBlocks, block_keys, root_key

NUM_BLOCKS, BLOCK_SIZE = 7, 2
TEXTS = st.lists(st.integers(0, 1), min_size=1, max_size=9)


def keys_of(ids: list[int], root: bytes = b"") -> list[BlockKey]:
    return list(block_keys(ids, BLOCK_SIZE, parent=root))


class Sequences(RuleBasedStateMachine):
    """Sequences that begin, grow, fork and end, and what each must find in its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS)
        self.contents: dict[int, tuple[int, ...]] = {}  # block -> all tokens up to its end
        self.held: list[list[int]] = []  # blocks of each sequence
        self.texts: list[list[int]] = []
        self.released: list[int] = []  # published blocks that nobody holds, in that order

    @rule(ids=TEXTS)
    def begin(self, ids: list[int]) -> None:
        blocks: list[int] = []
        for place, key in enumerate(keys_of(ids)):
            block = self.pool.find(key)
            if block is None:
                break
            assert self.contents[block] == tuple(ids[: (place + 1) * BLOCK_SIZE])
            if block in self.released:
                self.released.remove(block)
            blocks.append(block)
        self.held.append(blocks)
        self.texts.append(ids)
        self.grow(len(self.held) - 1)

    def grow(self, index: int) -> None:
        """Takes blocks for the whole text, writes and publishes them; ends where none is left."""
        blocks, ids = self.held[index], self.texts[index]
        while len(blocks) * BLOCK_SIZE < len(ids):
            num_before = self.pool.num_free
            try:
                block = self.pool.take()
            except OutOfBlocks:
                assert num_before == 0
                self.end(index)
                return
            assert self.pool.num_free == num_before - 1
            if block in self.released:
                # the one that was let go first, once no unused block is left
                assert block == self.released.pop(0)
                assert num_before == len(self.released) + 1
            blocks.append(block)
            self.contents[block] = tuple(ids[: len(blocks) * BLOCK_SIZE])
        for block, key in zip(blocks, keys_of(ids), strict=False):
            self.pool.publish(block, key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.held) - 1))
        for block in self.held[index]:
            self.pool.share(block)
        self.held.append(list(self.held[index]))
        self.texts.append(self.texts[index])

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def end_one(self, data: st.DataObject) -> None:
        self.end(data.draw(st.integers(0, len(self.held) - 1)))

    def end(self, index: int) -> None:
        blocks = self.held.pop(index)
        self.texts.pop(index)
        still_held = {block for others in self.held for block in others}
        for block in reversed(blocks):
            num_kept = self.pool.num_kept
            self.pool.release(block)
            if self.pool.num_kept > num_kept:
                assert block not in still_held
                self.released.append(block)

    @invariant()
    def counts_are_exact(self) -> None:
        counts = Counter(block for blocks in self.held for block in blocks)

        assert [self.pool.count(block) for block in range(NUM_BLOCKS)] == [
            counts[block] for block in range(NUM_BLOCKS)
        ]

    @invariant()
    def no_block_is_lost(self) -> None:
        distinct = {block for blocks in self.held for block in blocks}

        assert self.pool.num_held == len(distinct)
        assert self.pool.num_held + self.pool.num_free == NUM_BLOCKS
        assert self.pool.num_kept == len(self.released)


TestSequences = Sequences.TestCase
TestSequences.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_every_block_can_be_taken_and_no_more() -> None:
    pool = BlockPool(3)

    assert sorted(pool.take() for _ in range(3)) == [0, 1, 2]
    with pytest.raises(OutOfBlocks):
        pool.take()


def test_a_block_is_not_given_back_twice() -> None:
    pool = BlockPool(2)
    block = pool.take()
    pool.release(block)

    with pytest.raises(ValueError, match=r"block \d is held by nobody; expected one that take"):
        pool.release(block)


def test_a_digest_that_two_texts_share_is_no_hit() -> None:
    pool = BlockPool(2)
    pool.publish(pool.take(), BlockKey(b"same", b"one text"))

    assert pool.find(BlockKey(b"same", b"another text")) is None
    assert pool.find(BlockKey(b"same", b"one text")) == 0


def test_what_is_evicted_is_found_no_more() -> None:
    pool, (first, second) = BlockPool(2), keys_of([0, 1, 2, 3])
    blocks = [pool.take(), pool.take()]
    pool.publish(blocks[0], first)
    pool.publish(blocks[1], second)
    pool.release(blocks[1])
    pool.release(blocks[0])

    assert pool.take() == blocks[1]  # let go first
    assert pool.find(second) is None
    assert pool.find(first) == blocks[0]


def test_keys_depend_on_every_token_before_and_on_the_root() -> None:
    plain, other = keys_of([1, 2, 3, 4, 5]), keys_of([9, 2, 3, 4])

    assert len(plain) == 2
    assert plain[1].tokens == other[1].tokens
    assert plain[1].digest != other[1].digest
    assert keys_of([1, 2], root_key("a", "b"))[0] != keys_of([1, 2], root_key("ab"))[0]


def test_keys_go_on_where_they_ended() -> None:
    ids = [1, 2, 3, 4, 5, 6]
    first, *rest = keys_of(ids)

    assert list(block_keys(ids, BLOCK_SIZE, parent=first.digest, start=1)) == rest

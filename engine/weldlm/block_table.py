"""BlockTable: which blocks of the cache each branch holds, in a table that forwards read."""

import numpy as np

from weldlm.block_pool import BlockPool, block_keys
from weldlm.generation_request import Branch

__all__ = ["BlockTable"]


class BlockTable:
    """A row of block numbers for each branch under way."""

    def __init__(
        self,
        pool: BlockPool,
        *,
        block_size: int,
        num_rows: int,
        max_length: int,
        shares_prefixes: bool,
    ) -> None:
        self.pool, self.block_size = pool, block_size
        self._shares_prefixes = shares_prefixes
        self._table = np.zeros((num_rows, -(-max_length // block_size)), dtype=np.int32)
        self._free_rows = list(range(num_rows - 1, -1, -1))

    def rows(self, branches: list[Branch]) -> np.ndarray:
        """[B, max_blocks] int32, of each branch."""
        taken: np.ndarray = self._table[[branch.row for branch in branches]]
        return taken

    def enter(self, branch: Branch) -> None:
        """Gives a branch a row, and the blocks that are published of what it begins with.

        At least one token is left to compute, and all of a prompt whose log-probabilities are asked
        for.
        """
        branch.row = self._free_rows.pop()
        is_read_whole = branch.group.settings.prompt_logprobs is not None and branch.group.is_prompt
        if not self._shares_prefixes or is_read_whole:
            return
        self._extend_keys(branch, len(branch.ids))
        for key in branch.block_keys[: (len(branch.ids) - 1) // self.block_size]:
            block = self.pool.find(key)
            if block is None:
                break
            self._append(branch, block)
        branch.num_published = len(branch.blocks)
        branch.num_cached = len(branch.blocks) * self.block_size

    def num_missing(self, branch: Branch, length: int) -> int:
        """Number of blocks that a branch lacks for `length` tokens."""
        return max(-(-length // self.block_size) - len(branch.blocks), 0)

    def reserve(self, branch: Branch, end: int, copies: list[tuple[int, int]]) -> None:
        """Makes room for the tokens up to `end`, in blocks that nobody else writes.

        May be called again after it has failed.

        Args:
            branch: takes the blocks.
            end: of the sequence after the next forward.
            copies: (source, target) of blocks to copy first are added here.

        Raises:
            OutOfBlocks: all are held.
        """
        place = branch.num_cached // self.block_size
        if place < len(branch.blocks) and self.pool.count(branch.blocks[place]) > 1:
            source, target = branch.blocks[place], self.pool.take()
            if branch.num_cached % self.block_size:
                copies.append((source, target))
            self.pool.release(source)
            branch.blocks[place] = target
            self._table[branch.row, place] = target
        for _ in range(self.num_missing(branch, end)):
            self._append(branch, self.pool.take())

    def publish(self, branch: Branch) -> None:
        """Tells others of the blocks that the last forward has filled."""
        num_full = branch.num_cached // self.block_size
        if not self._shares_prefixes or branch.num_published >= num_full:
            return
        self._extend_keys(branch, branch.num_cached)
        for place in range(branch.num_published, num_full):
            self.pool.publish(branch.blocks[place], branch.block_keys[place])
        branch.num_published = num_full

    def fork(self, parent: Branch, branch: Branch) -> None:
        """Gives a new branch a row with the blocks of `parent`."""
        branch.row = self._free_rows.pop()
        for block in parent.blocks:
            self.pool.share(block)
        self._set(branch, parent.blocks)
        self._follow(branch, parent)

    def continue_from(self, branches: list[Branch], parents: list[Branch]) -> None:
        """Lets each branch go on from one of them, its tokens included."""
        kept = [
            (list(parent.ids), list(parent.blocks), list(parent.block_keys)) for parent in parents
        ]
        counters = [(parent.num_cached, parent.num_published) for parent in parents]
        for _, blocks, _ in kept:
            for block in blocks:
                self.pool.share(block)
        for branch in branches:
            self._release_blocks(branch)
        for branch, (ids, blocks, keys), (num_cached, num_published) in zip(
            branches, kept, counters, strict=True
        ):
            branch.ids, branch.block_keys = ids, keys
            branch.num_cached, branch.num_published = num_cached, num_published
            self._set(branch, blocks)

    def leave(self, branch: Branch) -> None:
        """Takes row and blocks from a branch; what it had is to be computed again."""
        if branch.row < 0:
            return
        self._release_blocks(branch)
        self._free_rows.append(branch.row)
        branch.row, branch.num_cached, branch.num_published = -1, 0, 0

    def _follow(self, branch: Branch, parent: Branch) -> None:
        branch.block_keys = list(parent.block_keys)
        branch.num_cached, branch.num_published = parent.num_cached, parent.num_published

    def _extend_keys(self, branch: Branch, num_tokens: int) -> None:
        keys = branch.block_keys
        parent = keys[-1].digest if keys else branch.group.root
        ids = branch.ids[:num_tokens] if num_tokens < len(branch.ids) else branch.ids
        keys.extend(block_keys(ids, self.block_size, parent=parent, start=len(keys)))

    def _append(self, branch: Branch, block: int) -> None:
        self._table[branch.row, len(branch.blocks)] = block
        branch.blocks.append(block)

    def _set(self, branch: Branch, blocks: list[int]) -> None:
        branch.blocks = list(blocks)
        self._table[branch.row, : len(blocks)] = blocks

    def _release_blocks(self, branch: Branch) -> None:
        """The last ones first: they are the first to be evicted."""
        for block in reversed(branch.blocks):
            self.pool.release(block)
        branch.blocks = []

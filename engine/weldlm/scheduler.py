"""Scheduler: what the next forward computes, and who waits for memory.

Every branch that lacks one token gets it, and prompts take what is left of the token budget, in the
order in which their groups entered. Where blocks run out, the group that entered last leaves and is
computed again later (Kwon et al. 2023, arXiv:2309.06180, section 4.5): memory never overflows. A
group enters and leaves as a whole.
"""

from collections import deque
from dataclasses import dataclass, field

from weldlm.batch_limits import BatchLimits
from weldlm.block_pool import OutOfBlocks
from weldlm.block_table import BlockTable
from weldlm.generation_request import Branch, Group

__all__ = ["Plan", "Scheduler", "Work"]


@dataclass(frozen=True, slots=True)
class Work:
    """A branch's part of a forward."""

    branch: Branch
    count: int  # tokens behind those that the cache holds

    @property
    def is_ready(self) -> bool:
        """Whether the forward predicts the branch's next token."""
        return self.count == self.branch.num_missing


@dataclass(slots=True)
class Plan:
    """A forward."""

    works: list[Work] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)  # (source, target) blocks, before


class Scheduler:
    """The groups that wait and those under way, and their blocks."""

    def __init__(self, limits: BatchLimits, table: BlockTable) -> None:
        self.table = table
        self.waiting: deque[Group] = deque()
        self.running: list[Group] = []  # in the order in which they entered
        self.num_preemptions = 0
        self._limits = limits
        self._width = 0  # branches that those under way may have

    @property
    def num_sequences(self) -> int:
        """Branches that the groups have, or will have once their prompts are read."""
        return self._width + sum(group.width for group in self.waiting)

    def add(self, group: Group) -> None:
        """Puts a group behind those that wait.

        Raises:
            ValueError: it could not be computed even alone.
        """
        if group.width > self._limits.batch_size:
            raise ValueError(
                f"a prompt needs {group.width} sequences; expected at most batch_size "
                f"{self._limits.batch_size}; raise it, or lower n, best_of or num_beams"
            )
        pool, size = self.table.pool, self.table.block_size
        num_blocks = group.width * -(-group.max_length // size)
        if num_blocks > pool.num_blocks:
            raise ValueError(
                f"{group.width} sequences of {group.max_length} tokens take {num_blocks} blocks of "
                f"the cache; expected at most {pool.num_blocks}; lower max_tokens, or raise "
                "cache_bytes or max_length"
            )
        self.waiting.append(group)

    def remove(self, group: Group) -> None:
        """Takes a group out, finished or not."""
        for branch in group.branches:
            self.table.leave(branch)
        if group in self.running:
            self.running.remove(group)
            self._width -= group.width
        else:
            self.waiting.remove(group)

    def plan(self) -> Plan:
        """Decides on the next forward; without work if nobody is there."""
        plan, num_preemptions = Plan(), self.num_preemptions
        budget = self._limits.max_batch_tokens - sum(
            branch.num_missing == 1 for group in self.running for branch in group.live
        )
        index = 0
        while index < len(self.running):
            budget = self._take(self.running[index], budget, plan)
            index += 1
        if self.num_preemptions == num_preemptions:
            self._admit(budget, plan)
        return plan

    def _take(self, group: Group, budget: int, plan: Plan) -> int:
        """Adds what a group computes next; returns the budget that is left."""
        works, left = self._works(group, budget)
        copies: list[tuple[int, int]] = []
        for work in works:
            end = work.branch.num_cached + work.count
            while not self._has_reserved(work.branch, end, copies):
                last = self.running[-1]
                self._preempt(last)
                if last is group:
                    return budget
        plan.works += works
        plan.copies += copies
        return left

    def _works(self, group: Group, budget: int) -> tuple[list[Work], int]:
        works, live = [], group.live
        # beams are compared with each other: the last token of all goes into one forward
        num_held = 1 if group.beams is not None and len(live) > 1 else 0
        if num_held and all(branch.num_missing == 1 for branch in live):
            num_held = 0
        for branch in live:
            missing = branch.num_missing - num_held
            if missing == 1 and not num_held:
                works.append(Work(branch, 1))
                continue
            count = min(missing, budget, self._limits.prefill_chunk or missing)
            if count > 0:
                works.append(Work(branch, count))
                budget -= count
        return works, budget

    def _has_reserved(self, branch: Branch, end: int, copies: list[tuple[int, int]]) -> bool:
        try:
            self.table.reserve(branch, end, copies)
        except OutOfBlocks:
            return False
        return True

    def _preempt(self, group: Group) -> None:
        self.remove(group)
        self.waiting.appendleft(group)
        self.num_preemptions += 1

    def _admit(self, budget: int, plan: Plan) -> None:
        """Lets groups enter in their order while there are tokens, rows and blocks for them."""
        while self.waiting and budget > 0:
            group = self.waiting[0]
            if self._width + group.width > self._limits.batch_size or not self._enters(group):
                return
            self.waiting.popleft()
            self.running.append(group)
            self._width += group.width
            num_single = sum(branch.num_missing == 1 for branch in group.live)
            budget = self._take(group, budget - num_single, plan)
            budget -= len(group.source) if group.memory is None else 0

    def _enters(self, group: Group) -> bool:
        """Gives a group rows, if there are blocks for all its tokens and one more a branch."""
        branches = group.live
        for branch in branches:
            self.table.enter(branch)
        num_missing = sum(
            self.table.num_missing(branch, min(len(branch.ids) + 1, group.max_length))
            for branch in branches
        )
        if num_missing <= self.table.pool.num_free:
            return True
        for branch in branches:
            self.table.leave(branch)
        return False

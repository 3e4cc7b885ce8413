"""What a run learns from: micro-batches that follow from the number of a step alone.

Token shards give rows of a packing plan to an objective; an example set gives examples in an order
drawn for each epoch. A step's micro-batches, and the shares of its ranks, are slices of the same
rows or examples, so neither changes the data.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from weldlm.config import HeadKind, ModelConfig
from weldlm.data import TokenShards
from weldlm.data.plan import PackingPlan, draw_order
from weldlm.objectives import ExampleSet, MicroBatch, TokenObjective, describe_objective
from weldlm.packing import PackedBatch
from weldlm.train_settings import TrainSettings

__all__ = ["ExampleBatches", "TokenRows", "TrainingData", "best_fit"]

Ints = npt.NDArray[np.int64]
T = TypeVar("T")


class TrainingData(Protocol):
    """Micro-batches of a run and of its validation."""

    @property
    def head(self) -> HeadKind:
        """Of the models that learn from it."""

    @property
    def objective(self) -> str:
        """Names what is asked, with all that decides it."""

    @property
    def fingerprint(self) -> str:
        """Names the content."""

    @property
    def tokens_per_byte(self) -> float | None:
        """Tokens for each byte of source text, where its size is known."""

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which everything was seen once."""

    @property
    def most_tokens(self) -> int:
        """Of a micro-batch."""

    def check(self, config: ModelConfig) -> None:
        """Raises ValueError where a model of this configuration cannot learn from it."""

    def verify(self) -> None:
        """Raises ValueError where the content is damaged on the disk."""

    def micro_batches(self, step: int, rank: int = 0, world_size: int = 1) -> list[MicroBatch]:
        """Returns what a rank takes of `step`, counted from 0."""

    def validation_batches(self, rank: int = 0, world_size: int = 1) -> Iterator[MicroBatch]:
        """Everything once in its own order, or as much as the settings ask.

        Each rank has as many micro-batches; the last may be empty.
        """

    def no_samples(self) -> MicroBatch:
        """Returns a micro-batch with nothing in it."""


@dataclass(slots=True)
class TokenRows:
    """Rows of token shards for an objective."""

    shards: TokenShards
    token_objective: TokenObjective
    settings: TrainSettings  # with row_length and micro_batch_rows known
    seed: int | None  # of the order; documents keep theirs where None
    _plan: PackingPlan | None = None

    @property
    def plan(self) -> PackingPlan:
        """The rows."""
        if self._plan is None:
            assert self.settings.row_length is not None
            self._plan = PackingPlan(
                self.shards, row_length=self.settings.row_length, seed=self.seed
            )
        return self._plan

    @property
    def head(self) -> HeadKind:
        return self.token_objective.head

    @property
    def objective(self) -> str:
        return describe_objective(self.token_objective)

    @property
    def fingerprint(self) -> str:
        return self.shards.fingerprint

    @property
    def tokens_per_byte(self) -> float | None:
        # of all tokens: a share of them says nothing of the bytes
        return self.shards.tokens_per_byte if self.head == "causal_lm" else None

    @property
    def steps_per_epoch(self) -> float:
        return self.shards.num_tokens / (self.settings.rows_per_step * self.plan.row_length)

    @property
    def most_tokens(self) -> int:
        return self._micro_batch_rows * self.plan.row_length

    def check(self, config: ModelConfig) -> None:
        shards, row_length = self.shards, self.settings.row_length or 0
        if shards.vocab_size > config.vocab_size:
            raise ValueError(
                f"{shards.folder} has vocab_size {shards.vocab_size}; expected at most the "
                f"model's, {config.vocab_size}: was it encoded with the model's tokenizer?"
            )
        if shards.lengths.max() < 2:
            raise ValueError(
                f"{shards.folder} has no document of two tokens; expected one, to predict the "
                "second from the first"
            )
        num_added = self.token_objective.num_added
        most = config.context_length - num_added
        if config.positions != "relative" and row_length > most:
            less = f" less the {num_added} tokens that the objective adds" if num_added else ""
            raise ValueError(
                f"row_length is {row_length}; expected at most the model's context_length{less}, "
                f"{most}"
            )
        self.token_objective.check(config)

    def verify(self) -> None:
        self.shards.verify()

    def micro_batches(self, step: int, rank: int = 0, world_size: int = 1) -> list[MicroBatch]:
        first = step * self.settings.rows_per_step
        begin, end = share(self.settings.rows_per_step, rank, world_size)
        return [
            self._micro_batch(*self.plan.samples(first + row, count))
            for row, count in _slices(begin, end, self._micro_batch_rows) or [(begin, 0)]
        ]

    def validation_batches(self, rank: int = 0, world_size: int = 1) -> Iterator[MicroBatch]:
        """The rows in the order of the documents; the last row may be short."""
        num_tokens = self.shards.num_tokens
        if self.settings.eval_rows is not None:
            num_tokens = min(num_tokens, self.settings.eval_rows * self.plan.row_length)
        slices = _slices(0, num_tokens, self.most_tokens)
        for begin, count in _every(slices, rank, world_size, empty=(0, 0)):
            yield self._micro_batch(*self.plan.samples_between(begin, begin + count))

    def no_samples(self) -> MicroBatch:
        return self._micro_batch(*self.plan.samples(0, 0))

    @property
    def _micro_batch_rows(self) -> int:
        return self.settings.micro_batch_rows or self.settings.rows_per_step

    def _micro_batch(self, batch: PackedBatch, sample_ids: Ints) -> MicroBatch:
        arguments = self.token_objective(batch, sample_ids)
        return MicroBatch.of_tokens(*arguments, sample_ids=sample_ids)


@dataclass(slots=True)
class ExampleBatches:
    """Examples in an order drawn for each epoch; a row of the settings is an example."""

    examples: ExampleSet
    settings: TrainSettings
    seed: int | None  # of the order; examples keep theirs where None
    _order: tuple[int, Ints] = (-1, np.empty(0, np.int64))  # an epoch and its order

    @property
    def head(self) -> HeadKind:
        return self.examples.head

    @property
    def objective(self) -> str:
        return type(self.examples).__name__

    @property
    def fingerprint(self) -> str:
        return self.examples.fingerprint

    @property
    def tokens_per_byte(self) -> float | None:
        return None

    @property
    def steps_per_epoch(self) -> float:
        return len(self.examples.lengths) / self.settings.rows_per_step

    @property
    def most_tokens(self) -> int:
        longest = int(self.examples.lengths.max())
        count = self.settings.micro_batch_rows or self.settings.rows_per_step
        budget = self.settings.micro_batch_tokens
        most = min(count, len(self.examples.lengths)) * longest
        return most if budget is None else min(most, max(budget, longest))

    def check(self, config: ModelConfig) -> None:
        self.examples.check(config)

    def verify(self) -> None:
        """They are in memory: nothing can have changed."""

    def micro_batches(self, step: int, rank: int = 0, world_size: int = 1) -> list[MicroBatch]:
        first, end = self.places(step)
        begin, stop = share(end - first, rank, world_size)
        indices = self.order(first + begin, first + stop)
        return [self.examples.select(group) for group in self._groups(indices)]

    def validation_batches(self, rank: int = 0, world_size: int = 1) -> Iterator[MicroBatch]:
        num_examples = len(self.examples.lengths)
        if self.settings.eval_rows is not None:
            num_examples = min(num_examples, self.settings.eval_rows)
        groups = [
            group
            for begin, count in _slices(0, num_examples, self.settings.rows_per_step)
            for group in self._groups(np.arange(begin, begin + count))
        ]
        for group in _every(groups, rank, world_size, empty=np.empty(0, np.int64)):
            yield self.examples.select(group)

    def no_samples(self) -> MicroBatch:
        return self.examples.select(np.empty(0, np.int64))

    def places(self, step: int) -> tuple[int, int]:
        """Where the examples of a step stand in the endless stream; the run may end in it."""
        first = step * self.settings.rows_per_step
        end = first + self.settings.rows_per_step
        if self.settings.epochs is not None:
            end = min(end, round(self.settings.epochs * len(self.examples.lengths)))
        return first, max(end, first)

    def order(self, begin: int, end: int) -> Ints:
        """The examples at the places [begin, end) of the stream of all epochs."""
        size = len(self.examples.lengths)
        parts = [np.empty(0, np.int64)]
        for epoch in range(begin // size, -(-end // size)):
            first, last = max(begin - epoch * size, 0), min(end - epoch * size, size)
            parts.append(self._epoch(epoch)[first:last])
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> Ints:
        if self._order[0] != epoch:
            order = draw_order(len(self.examples.lengths), self.seed, epoch, stream=0)
            self._order = epoch, order
        return self._order[1]

    def _groups(self, indices: Ints) -> list[Ints]:
        """Cuts examples into micro-batches of so many rows or tokens at most; at least one."""
        size = self.settings.micro_batch_rows or max(len(indices), 1)
        groups = [indices[row : row + count] for row, count in _slices(0, len(indices), size)]
        budget = self.settings.micro_batch_tokens
        if budget is not None:
            groups = [part for group in groups for part in self._fitted(group, budget)]
        return groups or [indices]

    def _fitted(self, indices: Ints, budget: int) -> list[Ints]:
        return [indices[part] for part in best_fit(self.examples.lengths[indices], budget)]


def best_fit(lengths: Ints, budget: int) -> list[Ints]:
    """Packs items into bins of `budget`, longest first, each where least room is left over.

    A longer item has a bin of its own. Returns the items of each bin, in their order (Johnson
    1973: at most 11/9 of the fewest bins).
    """
    rooms: list[int] = []
    bins: list[list[int]] = []
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        fitting = [(room, index) for index, room in enumerate(rooms) if room >= length]
        if fitting:
            _, index = min(fitting)
            bins[index].append(item)
            rooms[index] -= length
        else:
            bins.append([item])
            rooms.append(budget - length)
    return [np.sort(np.array(items)) for items in bins]


def share(count: int, rank: int, world_size: int) -> tuple[int, int]:
    """The part [begin, end) of `count` rows that a rank takes."""
    return count * rank // world_size, count * (rank + 1) // world_size


def _every(items: Sequence[T], rank: int, world_size: int, *, empty: T) -> list[T]:
    """What a rank takes where items go round; as many as any other, `empty` in the last place."""
    mine = list(items[rank::world_size])
    return mine if len(mine) == -(-len(items) // world_size) else [*mine, empty]


def _slices(begin: int, end: int, size: int) -> Sequence[tuple[int, int]]:
    """(begin, length) of consecutive parts of at most `size`."""
    return [(start, min(size, end - start)) for start in range(begin, end, size)]

"""Engine: requests in, events out, one forward at a time.

    engine = Engine(model, tokenizer, BatchLimits(batch_size=64))
    engine.add(Request(id="a", ids=encode_prompt(model.config, tokenizer, "Once"), settings=s))
    while engine.has_work:
        for event in engine.step(): ...

Requests carry their own settings, come at any time and may be aborted between steps. One thread
drives an engine. In batch-invariant mode a row does not depend on what else is in the batch: what
follows from its own tokens is computed the same way, bit for bit in fp32, wherever it stands.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from weldlm.batch_limits import BatchLimits
from weldlm.block_pool import BlockPool
from weldlm.block_table import BlockTable
from weldlm.cache import CacheStep, KVCache
from weldlm.completion import Completion, FinishReason
from weldlm.config import ModelConfig
from weldlm.forward import Forward, plan_forward, row_multiple
from weldlm.generation_request import Branch, Group, Request
from weldlm.heads import Seq2SeqLM
from weldlm.memory import cache_bytes
from weldlm.packed_linear import PackedLinears
from weldlm.packing import PackedBatch
from weldlm.scheduler import Plan, Scheduler
from weldlm.source_memory import SourceMemory
from weldlm.token_choice import Candidate, choose_tokens
from weldlm.token_logprobs import TokenLogprob, token_logprobs
from weldlm.tokenizer import Tokenizer

__all__ = ["Engine", "EngineCounts", "Event", "GenerativeModel", "LanguageModel"]


class LanguageModel(Protocol):
    """What generation needs of a decoder; `weldlm.CausalLM` has it."""

    @property
    def config(self) -> ModelConfig: ...

    def parameters(self) -> Iterator[Tensor]:
        """Weights; the first decides device and dtype of the cache."""

    def logits(self, batch: PackedBatch, cache: CacheStep) -> Tensor:
        """Scores of the token after every token, [T, vocab_size]; adds the batch to `cache`."""

    def next_token_logits(self, batch: PackedBatch, cache: CacheStep) -> Tensor:
        """Scores of the token after each sequence, [B, vocab_size]; adds the batch to `cache`."""


GenerativeModel = LanguageModel | Seq2SeqLM


@dataclass(frozen=True, slots=True)
class Event:
    """What a step has added to a request."""

    request_id: int | str
    index: int = 0  # which of the n completions
    text: str = ""  # final now; all pieces together are the completion's text
    ids: tuple[int, ...] = ()  # the new token
    logprobs: tuple[TokenLogprob, ...] = ()  # of `ids`, where asked for
    finish_reason: FinishReason | None = None  # of this completion
    completion: Completion | None = None  # of the whole request, with its last event


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """How full an engine is."""

    num_running: int  # requests in the batch
    num_waiting: int  # requests that have not entered or were preempted
    num_sequences: int  # samples and beams of both
    num_blocks: int
    num_held_blocks: int
    num_preemptions: int  # since the engine exists


class Engine:
    """Requests under way and their cache."""

    def __init__(
        self,
        model: GenerativeModel,
        tokenizer: Tokenizer | None = None,
        limits: BatchLimits | None = None,
    ) -> None:
        """Allocates the cache.

        Args:
            model: a `CausalLM` or `Seq2SeqLM`.
            tokenizer: None only for ids without stop texts; texts are empty then.
            limits: the defaults where None.

        Raises:
            ValueError: the cache does not fit into memory.
        """
        limits = BatchLimits() if limits is None else limits
        weight = next(model.parameters())
        self._model, self._tokenizer, self._device = model, tokenizer, weight.device
        self._cache_dtype = torch.int8 if limits.cache_dtype == "int8" else weight.dtype
        max_length = model.config.context_length
        if limits.max_length is not None:
            max_length = min(max_length, limits.max_length)
        num_blocks = _num_blocks(model.config, limits, max_length, self._cache_dtype)
        self._cache = KVCache(
            model.config,
            num_blocks,
            limits.block_size,
            dtype=self._cache_dtype,
            device=weight.device,
        )
        self._scheduler = Scheduler(
            limits,
            BlockTable(
                BlockPool(num_blocks),
                block_size=limits.block_size,
                num_rows=limits.batch_size,
                max_length=max_length,
                shares_prefixes=limits.shares_prefixes,
            ),
        )
        self._max_length = max_length
        is_asked = limits.is_batch_invariant
        self._is_invariant = weight.device.type == "cpu" if is_asked is None else is_asked
        self._products = _products(model, limits)
        is_packed = isinstance(self._products, PackedLinears)
        self._row_multiple = row_multiple(model.config, is_packed) if self._is_invariant else 1
        self._sources = SourceMemory(model) if isinstance(model, Seq2SeqLM) else None
        self._groups: dict[int | str, Group] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._groups)

    @property
    def counts(self) -> EngineCounts:
        scheduler, pool = self._scheduler, self._scheduler.table.pool
        return EngineCounts(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            num_sequences=scheduler.num_sequences,
            num_blocks=pool.num_blocks,
            num_held_blocks=pool.num_held,
            num_preemptions=scheduler.num_preemptions,
        )

    def add(self, request: Request) -> None:
        """Takes a request in; it enters the batch as soon as there is room.

        Raises:
            ValueError: its id is taken, or it can never be computed.
        """
        if request.id in self._groups:
            raise ValueError(f"request {request.id!r} is under way; give another id")
        dtype = str(self._cache_dtype)
        group = Group(request, self._model.config, self._tokenizer, dtype)
        if group.max_length > self._max_length:
            raise ValueError(
                f"request {request.id!r} may grow to {group.max_length} tokens; expected at most "
                f"max_length {self._max_length}; raise it, or lower max_tokens"
            )
        self._scheduler.add(group)
        self._groups[request.id] = group

    def abort(self, request_id: int | str) -> bool:
        """Drops a request and frees what it holds; False if it is not under way."""
        group = self._groups.pop(request_id, None)
        if group is not None:
            self._scheduler.remove(group)
        return group is not None

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Runs one forward; returns what is new, nothing where only prompts were read.

        Raises:
            FloatingPointError: the model's scores are not finite.
        """
        plan = self._scheduler.plan()
        if not plan.works:
            return []
        self._cache.copy(plan.copies)
        forward = plan_forward(
            plan.works,
            self._scheduler.table,
            self._cache,
            row_multiple=self._row_multiple,
            rows_are_independent=self._is_invariant,
        )
        with self._products:
            logits = self._logits(plan, forward)
        ready: list[tuple[Branch, int]] = []
        for place, work in enumerate(plan.works):
            branch, is_ready = work.branch, work.is_ready
            branch.num_cached += work.count
            self._scheduler.table.publish(branch)
            if is_ready:
                ready.append((branch, place))
        return self._choose(logits, ready) if ready else []

    def _logits(self, plan: Plan, forward: Forward) -> Tensor:
        """Of the token after each branch's, [B or more, vocab_size]."""
        model, batch, cache = self._model, forward.batch.to(self._device), forward.cache
        if isinstance(model, Seq2SeqLM):
            assert self._sources is not None
            self._sources.read(
                [work.branch.group for work in plan.works if work.branch.group.memory is None],
                multiple=self._row_multiple,
            )
            memory = self._sources.join(
                [work.branch.group.memory for work in plan.works], batch.num_sequences
            )
            return model.next_token_logits(batch, memory, cache)
        asked = [
            (work, start)
            for work, start in zip(plan.works, forward.row_starts, strict=True)
            if work.branch.group.settings.prompt_logprobs is not None
            and work.branch.group.is_prompt
        ]
        if not asked:
            return model.next_token_logits(batch, cache)
        logits = model.logits(batch, cache)
        for work, start in asked:
            _read_prompt_logprobs(work.branch, logits[start : start + work.count])
        return logits[batch.offsets[1:].long() - 1]

    def _choose(self, logits: Tensor, ready: list[tuple[Branch, int]]) -> list[Event]:
        events: list[Event] = []
        candidates: list[Candidate] = []
        beams: dict[Group, list[int]] = {}
        for branch, place in ready:
            group = branch.group
            if group.beams is not None:
                beams.setdefault(group, []).append(place)
                continue
            candidates.append(Candidate(branch, place))
            if group.is_prompt and group.width > 1:
                candidates += [Candidate(new, place) for new in self._fork(branch)]
        for candidate, token_id, logprob in choose_tokens(logits, candidates):
            self._accept(candidate.branch, token_id, logprob, events)
        for group, places in beams.items():
            self._advance_beams(group, logits[places], events)
        return events

    def _fork(self, branch: Branch) -> list[Branch]:
        """The other branches of a group whose prompt is read."""
        group, table = branch.group, self._scheduler.table
        news = [group.new_branch(index) for index in range(1, group.width)]
        for new in news:
            table.fork(branch, new)
        return news

    def _accept(
        self, branch: Branch, token_id: int, logprob: TokenLogprob | None, events: list[Event]
    ) -> None:
        group, settings = branch.group, branch.group.settings
        text = branch.accept(token_id)
        if logprob is not None:
            branch.score += logprob.logprob
            if settings.logprobs is not None:
                branch.logprobs.append(logprob)
        if branch.finish_reason is not None:
            self._scheduler.table.leave(branch)
        completion = None if group.live else self._finish(group)
        if settings.is_streamed:
            logprobs = (logprob,) if settings.logprobs is not None and logprob is not None else ()
            events.append(
                Event(
                    group.request.id,
                    branch.index,
                    text,
                    (token_id,),
                    logprobs,
                    branch.finish_reason,
                    completion,
                )
            )
        elif completion is not None:
            events.append(Event(group.request.id, completion=completion))

    def _advance_beams(self, group: Group, logits: Tensor, events: list[Event]) -> None:
        assert group.beams is not None
        if len(group.branches) < group.width:
            self._fork(group.branches[0])
            logits = logits.expand(group.width, -1)
        scores = logits.float().log_softmax(dim=-1)
        if group.rules is not None:
            for row, branch in zip(scores, group.branches, strict=True):
                group.rules.apply(row, branch.ids, group.num_first)
        choices = group.beams.advance(
            scores,
            [branch.ids for branch in group.branches],
            group.has_stop_text if group.settings.stop else None,
        )
        if not choices:
            events.append(Event(group.request.id, completion=self._finish(group)))
            return
        parents = [group.branches[choice.parent] for choice in choices]
        self._scheduler.table.continue_from(group.branches, parents)
        for branch, choice in zip(group.branches, choices, strict=True):
            branch.ids.append(choice.token_id)

    def _finish(self, group: Group) -> Completion:
        self._scheduler.remove(group)
        del self._groups[group.request.id]
        return group.completion()


def _products(model: GenerativeModel, limits: BatchLimits) -> AbstractContextManager[None]:
    """How matrix products are computed."""
    if not isinstance(model, nn.Module) or limits.packs_weights is False:
        return nullcontext()
    if PackedLinears.takes(model):
        return PackedLinears(model)
    if limits.packs_weights:
        raise ValueError(
            "packs_weights is True; expected fp32 weights on a CPU, at most 4 GiB and as "
            "much memory besides; leave it out"
        )
    return nullcontext()


def _num_blocks(
    config: ModelConfig, limits: BatchLimits, max_length: int, dtype: torch.dtype
) -> int:
    if limits.cache_bytes is None:
        return limits.batch_size * -(-max_length // limits.block_size)
    bytes_of_block = cache_bytes(config, limits.block_size, dtype=dtype)
    if limits.cache_bytes < bytes_of_block:
        raise ValueError(
            f"cache_bytes is {limits.cache_bytes:,}; expected at least {bytes_of_block:,}, a block"
        )
    return limits.cache_bytes // bytes_of_block


def _read_prompt_logprobs(branch: Branch, logits: Tensor) -> None:
    """Looks up the tokens behind those that `logits` [count, vocab_size] stand for."""
    group = branch.group
    num_top = group.settings.prompt_logprobs
    assert num_top is not None
    first = branch.num_cached + 1
    targets = branch.ids[first : first + len(logits)]
    # a prompt that left the batch halfway is read again
    num_known = min(max(len(group.prompt_logprobs) + 1 - first, 0), len(targets))
    rows = logits[num_known : len(targets)]
    group.prompt_logprobs += token_logprobs(rows, targets[num_known:], num_top)

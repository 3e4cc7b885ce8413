"""Generation: prompts in, completions out, through one continuously batched loop.

Each forward takes one token of every sequence under way and, in chunks, the prompts that enter,
packed end to end; a sequence that finishes makes room for the next prompt at once. What a row
generates depends on its own prompt, its row id and the settings. The prompt of an encoder-decoder
is what its encoder reads; the sequence that grows is the decoder's.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from weldlm.cache import KVCache
from weldlm.config import ModelConfig
from weldlm.field_types import require_integers
from weldlm.heads import Seq2SeqLM
from weldlm.packing import PackedBatch
from weldlm.prompt import Prompt, encode_prompt, end_of_text_id, num_first_ids
from weldlm.sampling import SamplingSettings, sample
from weldlm.source_memory import SourceMemory
from weldlm.stopped_text import StoppedText
from weldlm.tokenizer import Tokenizer

__all__ = [
    "BatchLimits",
    "Completion",
    "FinishReason",
    "GenerativeModel",
    "LanguageModel",
    "complete",
    "generate",
    "stream",
]

# an end-of-sequence token or stop text; max_tokens; the model's context is full
FinishReason = Literal["stop", "length", "context"]


class LanguageModel(Protocol):
    """What generation needs of a decoder; `weldlm.CausalLM` has it."""

    @property
    def config(self) -> ModelConfig: ...

    def parameters(self) -> Iterator[Tensor]:
        """Weights; the first decides device and dtype of the cache."""

    def next_token_logits(self, batch: PackedBatch, cache: KVCache) -> Tensor:
        """Scores of the token after each sequence, [B, vocab_size]; adds the batch to `cache`."""


GenerativeModel = LanguageModel | Seq2SeqLM


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model made of a prompt."""

    text: str  # without the end-of-sequence token or stop text
    ids: tuple[int, ...]  # every new token, with those that ended the sequence
    finish_reason: FinishReason
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """How much is under way at a time."""

    batch_size: int = 16  # most sequences
    max_batch_tokens: int = 2_048  # most tokens in a forward; beyond it, one a sequence
    max_length: int | None = None  # of the longest sequence; None is the model's context_length

    def __post_init__(self) -> None:
        require_integers(self)
        for name in ("batch_size", "max_batch_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")


def generate(
    model: GenerativeModel,
    tokenizer: Tokenizer | None,
    prompts: Sequence[str | Sequence[int]],
    settings: SamplingSettings | None = None,
    *,
    batch_size: int = 16,
    max_batch_tokens: int = 2_048,
) -> list[Completion]:
    """Completes texts or lists of ids; a prompt's place in the list is its row id.

    Args:
        model: a `CausalLM`, or a `Seq2SeqLM`, for which prompts are sources.
        tokenizer: None only for ids without stop texts; the completions' texts are empty then.
        prompts: texts, or ids.
        settings: how to choose tokens and when to end; the defaults where None.
        batch_size: most sequences under way at a time.
        max_batch_tokens: most tokens in one forward; longer prompts enter in chunks.

    Raises:
        ValueError: a prompt is empty and the model has no first token, does not fit into the
            model's context, or has ids that the model does not know.
        FloatingPointError: the model's scores are not finite.
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts is the text {prompts[:40]!r}; expected a list of prompts")
    settings = SamplingSettings() if settings is None else settings
    encoded = [
        Prompt(row_id, encode_prompt(model.config, tokenizer, prompt))
        for row_id, prompt in enumerate(prompts)
    ]
    longest = max((len(prompt.ids) for prompt in encoded), default=0)
    limits = BatchLimits(
        batch_size=min(batch_size, max(len(encoded), 1)),
        max_batch_tokens=max_batch_tokens,
        max_length=num_first_ids(model.config, longest) + settings.max_tokens,
    )
    completions = dict(complete(model, tokenizer, encoded, settings, limits=limits))
    return [completions[prompt.row_id] for prompt in encoded]


def stream(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    settings: SamplingSettings | None = None,
) -> Generator[str, None, Completion]:
    """Yields the completion of one prompt piece by piece, and returns it whole.

    A piece ends between characters; text that may be the beginning of a stop text is held back. The
    result and the errors are those of `generate` with this prompt alone.
    """
    settings = SamplingSettings() if settings is None else settings
    ids = encode_prompt(model.config, tokenizer, prompt)
    sequence = _Sequence(model.config, tokenizer, Prompt(0, ids), settings)
    max_length = num_first_ids(model.config, len(ids)) + settings.max_tokens
    limits = BatchLimits(batch_size=1, max_length=max_length)
    return _stream(_Batch(model, settings, limits), sequence)


def _stream(batch: "_Batch", sequence: "_Sequence") -> Generator[str, None, Completion]:
    waiting = iter([sequence])
    while batch.admit(waiting):
        for _, piece in batch.step():
            if piece:
                yield piece
    return sequence.completion()


def complete(
    model: GenerativeModel,
    tokenizer: Tokenizer | None,
    prompts: Iterable[Prompt],
    settings: SamplingSettings,
    *,
    limits: BatchLimits,
) -> Iterator[tuple[int, Completion]]:
    """Yields (row id, completion) of each prompt as it finishes.

    Prompts, as `encode_prompt` gives them, are taken one by one as room appears, so they may come
    from a source of any length.
    """
    waiting = (_Sequence(model.config, tokenizer, prompt, settings) for prompt in prompts)
    batch = _Batch(model, settings, limits)
    while batch.admit(waiting):
        for sequence, _ in batch.step():
            if sequence.finish_reason is not None:
                yield sequence.row_id, sequence.completion()


class _Batch:
    """The sequences under way and their cache."""

    def __init__(
        self, model: GenerativeModel, settings: SamplingSettings, limits: BatchLimits
    ) -> None:
        weight = next(model.parameters())
        capacity = model.config.context_length
        if limits.max_length is not None:
            capacity = min(capacity, limits.max_length)
        self._model, self._settings, self._limits = model, settings, limits
        self._device = weight.device
        self._cache = KVCache(
            model.config, limits.batch_size, capacity, dtype=weight.dtype, device=weight.device
        )
        self._cache.keep([])
        self._sources = SourceMemory(model) if isinstance(model, Seq2SeqLM) else None
        self._sequences: list[_Sequence] = []
        self._chunks: list[int] = []  # tokens of each sequence in the next forward

    def admit(self, waiting: Iterator["_Sequence"]) -> bool:
        """Plans the next forward, with new sequences where there is room; False if none is left.

        Only the last sequence can have tokens of its prompt left over: none is admitted behind it.
        """
        budget = self._limits.max_batch_tokens
        self._chunks = []
        for sequence, num_cached in zip(self._sequences, self._cache.lengths, strict=True):
            self._chunks.append(min(len(sequence.ids) - num_cached, max(budget, 1)))
            budget -= self._chunks[-1]
        num_before = len(self._sequences)
        while budget > 0 and self._cache.num_free and (new := next(waiting, None)) is not None:
            self._cache.add()
            self._sequences.append(new)
            self._chunks.append(min(len(new.ids), budget))
            budget -= self._chunks[-1] + len(new.source)
        self._read_sources(self._sequences[num_before:])
        return bool(self._sequences)

    @torch.inference_mode()
    def _read_sources(self, sequences: Sequence["_Sequence"]) -> None:
        if self._sources is not None and sequences:
            self._sources.add([sequence.source for sequence in sequences])

    @torch.inference_mode()
    def step(self) -> list[tuple["_Sequence", str]]:
        """Runs the planned forward; returns each sequence that got a token, and its new text."""
        starts = self._cache.lengths
        ids = [
            token_id
            for sequence, start, chunk in zip(self._sequences, starts, self._chunks, strict=True)
            for token_id in sequence.ids[start : start + chunk]
        ]
        batch = PackedBatch.from_lengths(torch.tensor(ids), self._chunks, starts=starts)
        logits = self._next_token_logits(batch.to(self._device))
        is_last_partial = self._cache.lengths[-1] < len(self._sequences[-1].ids)
        ready = self._sequences[:-1] if is_last_partial else self._sequences
        if not ready:
            return []
        chosen = sample(
            logits[: len(ready)],
            self._settings,
            row_ids=torch.tensor([sequence.row_id for sequence in ready], device=logits.device),
            positions=torch.tensor([len(sequence.ids) for sequence in ready], device=logits.device),
        )
        news = [
            (sequence, sequence.accept(token_id))
            for sequence, token_id in zip(ready, chosen.tolist(), strict=True)
        ]
        self._drop_finished()
        return news

    def _next_token_logits(self, batch: PackedBatch) -> Tensor:
        if isinstance(self._model, Seq2SeqLM):
            assert self._sources is not None
            return self._model.next_token_logits(batch, self._sources.joint(), self._cache)
        return self._model.next_token_logits(batch, self._cache)

    def _drop_finished(self) -> None:
        kept = [
            index
            for index, sequence in enumerate(self._sequences)
            if sequence.finish_reason is None
        ]
        if len(kept) < len(self._sequences):
            self._cache.keep(kept)
            if self._sources is not None:
                self._sources.keep(kept)
            self._sequences = [self._sequences[index] for index in kept]


class _Sequence:
    """One prompt on its way to a completion."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer | None,
        prompt: Prompt,
        settings: SamplingSettings,
    ) -> None:
        self.row_id = prompt.row_id
        self.source, self.ids = prompt.split(config)
        self.finish_reason: FinishReason | None = None
        self._num_prompt_tokens, self._num_first = len(prompt.ids), len(self.ids)
        self._max_length = min(len(self.ids) + settings.max_tokens, config.context_length)
        self._is_cut_by_context = self._max_length < len(self.ids) + settings.max_tokens
        self._stop_ids = {
            *settings.stop_ids,
            *config.more_eos_ids,
            end_of_text_id(config, tokenizer),
        }
        self._text = StoppedText(tokenizer, settings.stop)
        self._pieces: list[str] = []

    def accept(self, token_id: int) -> str:
        """Adds a new token and returns the text that it makes final."""
        self.ids.append(token_id)
        piece = ""
        if token_id in self._stop_ids:
            self.finish_reason = "stop"
        else:
            piece = self._text.push(token_id)
            if len(self.ids) == self._max_length:
                self.finish_reason = "context" if self._is_cut_by_context else "length"
        if self.finish_reason is not None:
            piece += self._text.finish()
        if self._text.is_stopped:
            self.finish_reason = "stop"
        self._pieces.append(piece)
        return piece

    def completion(self) -> Completion:
        assert self.finish_reason is not None
        return Completion(
            text="".join(self._pieces),
            ids=tuple(self.ids[self._num_first :]),
            finish_reason=self.finish_reason,
            num_prompt_tokens=self._num_prompt_tokens,
        )

"""Learns byte-level BPE: counts words in bounded batches of text, then merges."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from weldlm import _tokenizer
from weldlm.tokenizer.arguments import (
    require_count,
    require_integer,
    require_iterable,
    shown_integer,
)
from weldlm.tokenizer.bpe import BpeModel, Pattern
from weldlm.tokenizer.byte_characters import bytes_from_characters
from weldlm.tokenizer.parts import AddedToken, Pretokenizer, TokenizerParts

__all__ = [
    "END_OF_TEXT",
    "BpeSettings",
    "Progress",
    "available_threads",
    "feed",
    "require_special_tokens",
    "require_vocab_size",
    "train_bpe",
]

END_OF_TEXT = "<|endoftext|>"
_GPT2 = Pattern("gpt2")
_CHARACTERS_AT_ONCE = 1 << 24
_MOST_THREADS = 1 << 16
_MAX_TOKEN_BYTES = 256  # of a special token; the core refuses longer ones

Progress: TypeAlias = Callable[[int, int], None]


class Trainer(Protocol):
    """Counts words on several threads."""

    def feed(self, texts: Iterable[str], num_threads: int) -> None: ...


def available_threads(num_threads: int | None) -> int:
    """`num_threads`, by default the number of cores this process may use."""
    if num_threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if not hasattr(num_threads, "__index__"):
        raise TypeError(f"num_threads is {num_threads!r}, expected a whole number or None")
    number = require_integer("num_threads", num_threads)
    if not 1 <= number <= _MOST_THREADS:
        raise ValueError(
            f"num_threads={shown_integer(number)}, expected at least 1 and at most "
            f"{_MOST_THREADS:,}, or None for all cores"
        )
    return number


def require_special_tokens(special_tokens: Sequence[str]) -> None:
    """
    Raises:
        TypeError: they are one str, or no strs.
        ValueError: one is empty, there twice, or holds a lone surrogate.
    """
    if isinstance(special_tokens, str):
        raise TypeError(f"special_tokens is the str {special_tokens!r}, expected a sequence of str")
    require_iterable("special_tokens", special_tokens, "a sequence of str")
    for token in special_tokens:
        if not isinstance(token, str):
            raise TypeError(f"special_tokens holds {token!r}, expected a sequence of str")
        if any("\ud800" <= character <= "\udfff" for character in token):
            raise ValueError(
                f"special token {token[:40]!r} holds a lone surrogate, which no text does; use "
                "other characters"
            )
    if len(set(special_tokens)) != len(special_tokens) or "" in special_tokens:
        raise ValueError(
            f"special_tokens={tuple(special_tokens)} holds a token twice or an empty one"
        )


@dataclass(frozen=True, slots=True)
class BpeSettings:
    """What is learned, by the rules of the BpeTrainer of tokenizers 0.23."""

    special_tokens: Sequence[str] = (END_OF_TEXT,)  # take the ids from 0
    min_frequency: int = 2  # pairs that occur less often are not merged
    pattern: Pretokenizer = _GPT2  # no merge crosses one of its pieces

    def __post_init__(self) -> None:
        require_special_tokens(self.special_tokens)
        require_count("min_frequency", self.min_frequency)
        for token in self.special_tokens:
            size = len(token.encode("utf-8", "replace"))
            if not 2 <= size <= _MAX_TOKEN_BYTES:
                raise ValueError(
                    f"special token {token[:40]!r} has {size} bytes, expected 2 to "
                    f"{_MAX_TOKEN_BYTES}: a single byte has a token already"
                )
            if not token.isascii() and bytes_from_characters(token) is not None:
                raise ValueError(
                    f"special token {token!r} would be decoded as other bytes by the tokenizers "
                    "library: use printable ASCII such as '<|endoftext|>'"
                )


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    settings: BpeSettings = BpeSettings(),
    *,
    allow_smaller: bool = False,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> TokenizerParts:
    """Learns merges of bytes.

    Args:
        texts: read once, in bounded batches; special tokens in them count as plain text.
        vocab_size: special tokens, 256 bytes and merged tokens.
        allow_smaller: take as many tokens as the texts support where that is fewer.
        progress: called now and then with the number of tokens so far and vocab_size.

    Raises:
        ValueError: the texts do not support vocab_size tokens, and allow_smaller is not set.
    """
    trainer = _tokenizer.BpeTrainer(settings.pattern.build())
    feed(trainer, texts, available_threads(num_threads))
    tokens, merges = trainer.train(
        vocab_size,
        [token.encode() for token in settings.special_tokens],
        settings.min_frequency,
        None if progress is None else lambda done: progress(done, vocab_size),
    )
    if not allow_smaller:
        require_vocab_size(len(tokens), vocab_size, settings.min_frequency)
    added = tuple(AddedToken(content, i) for i, content in enumerate(settings.special_tokens))
    return TokenizerParts(
        tokens=tokens, model=BpeModel(merges), pretokenizer=settings.pattern, added_tokens=added
    )


def require_vocab_size(num_tokens: int, vocab_size: int, min_frequency: int) -> None:
    """Raises ValueError where merges gave fewer tokens than were asked for."""
    if num_tokens < vocab_size:
        raise ValueError(
            f"vocab_size is {vocab_size}, but these texts support {num_tokens} tokens at "
            f"min_frequency {min_frequency}; give more text, lower min_frequency, or ask for "
            f"{num_tokens} or fewer"
        )


def feed(trainer: Trainer, texts: Iterable[str], num_threads: int) -> None:
    """Lets a trainer count the words of texts, in lists of bounded size."""
    if isinstance(texts, str):
        raise TypeError("texts is one str, expected several: pass [texts]")
    require_iterable("texts", texts, "several str")
    for batch in _batches(texts):
        trainer.feed(batch, num_threads)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of bounded size, the last of which may be empty."""
    batch: list[str] = []
    num_characters = 0
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {number} is a {type(text).__name__}, expected str")
        batch.append(text)
        num_characters += len(text)
        if num_characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, num_characters = [], 0
    yield batch

"""Learns byte-level BPE: counts words in bounded batches of text, then merges."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from weldlm import _tokenizer
from weldlm.tokenizer.bpe import BpeModel, Pattern
from weldlm.tokenizer.byte_characters import bytes_from_characters
from weldlm.tokenizer.parts import AddedToken, Pretokenizer, TokenizerParts

__all__ = ["available_threads", "text_batches", "train_bpe"]

_GPT2 = Pattern("gpt2")
_CHARACTERS_AT_ONCE = 1 << 24
_MAX_TOKEN_BYTES = 256  # of a special token; the core refuses longer ones


def available_threads(num_threads: int | None) -> int:
    """`num_threads`, by default the number of cores this process may use."""
    if num_threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if num_threads < 1:
        raise ValueError(f"num_threads={num_threads}, expected at least 1 or None for all cores")
    return num_threads


def train_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    pattern: Pretokenizer = _GPT2,
    special_tokens: Sequence[str],
    min_frequency: int,
    allow_smaller: bool,
    num_threads: int | None,
    progress: Callable[[int, int], None] | None,
) -> TokenizerParts:
    """Learns merges; see `Tokenizer.train`. No merge crosses a piece of the pattern."""
    if isinstance(texts, str):
        raise TypeError("texts is one str, expected several: pass [texts]")
    _require_special_tokens(special_tokens)
    threads = available_threads(num_threads)
    trainer = _tokenizer.BpeTrainer(pattern.build())
    for batch in text_batches(texts):
        trainer.feed(batch, threads)
    tokens, merges = trainer.train(
        vocab_size,
        [token.encode() for token in special_tokens],
        min_frequency,
        None if progress is None else lambda done: progress(done, vocab_size),
    )
    if len(tokens) < vocab_size and not allow_smaller:
        raise ValueError(
            f"vocab_size is {vocab_size}, but these texts support {len(tokens)} tokens at "
            f"min_frequency {min_frequency}; give more text, lower min_frequency, or ask for "
            f"{len(tokens)} or fewer"
        )
    added = tuple(AddedToken(content, i) for i, content in enumerate(special_tokens))
    return TokenizerParts(
        tokens=tokens, model=BpeModel(merges), pretokenizer=pattern, added_tokens=added
    )


def _require_special_tokens(special_tokens: Sequence[str]) -> None:
    if isinstance(special_tokens, str):
        raise TypeError(f"special_tokens is the str {special_tokens!r}, expected a sequence of str")
    if len(set(special_tokens)) != len(special_tokens):
        raise ValueError(f"special_tokens={tuple(special_tokens)} holds a token twice")
    for token in special_tokens:
        size = len(token.encode("utf-8", "replace"))
        if not 2 <= size <= _MAX_TOKEN_BYTES:
            raise ValueError(
                f"special token {token[:40]!r} has {size} bytes, expected 2 to {_MAX_TOKEN_BYTES}:"
                " a single byte has a token already"
            )
        if not token.isascii() and bytes_from_characters(token) is not None:
            raise ValueError(
                f"special token {token!r} would be decoded as other bytes by the tokenizers "
                "library: use printable ASCII such as '<|endoftext|>'"
            )


def text_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of bounded size, the last of which may be empty."""
    batch: list[str] = []
    num_characters = 0
    for text in texts:
        batch.append(text)
        num_characters += len(text)
        if num_characters >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, num_characters = [], 0
    yield batch

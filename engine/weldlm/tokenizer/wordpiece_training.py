"""Learns WordPiece: counts words in bounded batches of text, then merges characters."""

from collections.abc import Callable, Iterable, Sequence

from weldlm import _tokenizer
from weldlm.tokenizer.bert import SPECIAL_TOKENS, BertNormalizer, BertPretokenizer
from weldlm.tokenizer.parts import Normalizer, Pretokenizer
from weldlm.tokenizer.training import available_threads, text_batches

__all__ = ["train_wordpiece"]

_BERT_NORMALIZER = BertNormalizer()
_BERT_PRETOKENIZER = BertPretokenizer()


def train_wordpiece(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    min_frequency: int = 2,
    limit_alphabet: int | None = 1000,
    initial_alphabet: str = "",
    continuing_prefix: str = "##",
    normalizer: Normalizer | None = _BERT_NORMALIZER,
    pretokenizer: Pretokenizer | None = _BERT_PRETOKENIZER,
    allow_smaller: bool = False,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Learns a vocabulary, by the rules of the WordPieceTrainer of tokenizers 0.23.

    That library decides between equally frequent pairs by ids that differ from run to run: those
    of characters inside words. Here these are in the order of code points, and a run of the
    library with this order gives the same tokens with the same ids.

    Args:
        texts: read once, in bounded batches; special tokens in them count as plain text.
        vocab_size: special tokens, alphabet and merged tokens.
        special_tokens: take the ids from 0.
        min_frequency: pairs that occur less often are not merged.
        limit_alphabet: how many characters are kept, the most frequent ones; None for all.
        initial_alphabet: characters that are kept before all others.
        allow_smaller: take as many tokens as the texts support where that is fewer.
        progress: called now and then with the number of tokens so far and vocab_size.

    Returns:
        The tokens by id.

    Raises:
        ValueError: the texts do not support vocab_size tokens, and allow_smaller is not set; or
            the alphabet alone is larger.
    """
    if isinstance(texts, str):
        raise TypeError("texts is one str, expected several: pass [texts]")
    _require_options(special_tokens, limit_alphabet, initial_alphabet)
    threads = available_threads(num_threads)
    trainer = _tokenizer.WordPieceTrainer(
        None if normalizer is None else normalizer.build(),
        None if pretokenizer is None else pretokenizer.build(),
    )
    for batch in text_batches(texts):
        trainer.feed(batch, threads)
    tokens = trainer.train(
        vocab_size,
        special_tokens,
        min_frequency,
        limit_alphabet,
        initial_alphabet,
        continuing_prefix,
        None if progress is None else lambda done: progress(done, vocab_size),
    )
    if len(tokens) > vocab_size:
        raise ValueError(
            f"vocab_size is {vocab_size}, but special tokens and alphabet alone are {len(tokens)} "
            f"tokens; ask for at least {len(tokens)}, or lower limit_alphabet={limit_alphabet}"
        )
    if len(tokens) < vocab_size and not allow_smaller:
        raise ValueError(
            f"vocab_size is {vocab_size}, but these texts support {len(tokens)} tokens at "
            f"min_frequency {min_frequency}; give more text, lower min_frequency, or ask for "
            f"{len(tokens)} or fewer"
        )
    return [token.decode("utf-8") for token in tokens]


def _require_options(
    special_tokens: Sequence[str], limit_alphabet: int | None, initial_alphabet: str
) -> None:
    if isinstance(special_tokens, str):
        raise TypeError(f"special_tokens is the str {special_tokens!r}, expected a sequence of str")
    if len(set(special_tokens)) != len(special_tokens) or "" in special_tokens:
        raise ValueError(
            f"special_tokens={tuple(special_tokens)} holds a token twice or an empty one"
        )
    if limit_alphabet is not None and limit_alphabet < 0:
        raise ValueError(f"limit_alphabet={limit_alphabet}, expected at least 0 or None for all")
    for text in (*special_tokens, initial_alphabet):
        if any(0xD800 <= ord(char) < 0xE000 for char in text):
            raise ValueError(f"{text!r} holds a lone surrogate, which no text does")

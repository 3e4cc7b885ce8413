"""Learns WordPiece: counts words in bounded batches of text, then merges characters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from weldlm import _tokenizer
from weldlm.tokenizer.arguments import require_count
from weldlm.tokenizer.bert import SPECIAL_TOKENS, BertNormalizer, BertPretokenizer
from weldlm.tokenizer.parts import Normalizer, Pretokenizer
from weldlm.tokenizer.training import (
    Progress,
    available_threads,
    feed,
    require_special_tokens,
    require_vocab_size,
)

__all__ = ["WordPieceSettings", "train_wordpiece"]

_NORMALIZER = BertNormalizer()
_PRETOKENIZER = BertPretokenizer()


@dataclass(frozen=True, slots=True)
class WordPieceSettings:
    """What is learned, by the rules of the WordPieceTrainer of tokenizers 0.23."""

    special_tokens: Sequence[str] = SPECIAL_TOKENS  # take the ids from 0
    min_frequency: int = 2  # pairs that occur less often are not merged
    limit_alphabet: int | None = 1000  # most characters kept, the most frequent ones; None: all
    initial_alphabet: str = ""  # characters that are kept before all others
    continuing_prefix: str = "##"
    normalizer: Normalizer | None = _NORMALIZER
    pretokenizer: Pretokenizer | None = _PRETOKENIZER

    def __post_init__(self) -> None:
        require_special_tokens(self.special_tokens)
        require_count("min_frequency", self.min_frequency)
        if self.limit_alphabet is not None:
            require_count("limit_alphabet", self.limit_alphabet)
        if self.limit_alphabet is not None and self.limit_alphabet < 0:
            raise ValueError(
                f"limit_alphabet={self.limit_alphabet}, expected at least 0 or None for all"
            )
        if any(0xD800 <= ord(char) < 0xE000 for char in self.initial_alphabet):
            raise ValueError(
                f"initial_alphabet={self.initial_alphabet!r} holds a lone surrogate, which no "
                "text does"
            )


def train_wordpiece(
    texts: Iterable[str],
    vocab_size: int,
    settings: WordPieceSettings = WordPieceSettings(),
    *,
    allow_smaller: bool = False,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Learns a vocabulary and returns its tokens by id.

    The tokenizers library decides between equally frequent pairs by ids that differ from run to
    run: those of characters inside words. Here these are in the order of code points, and a run
    of the library with this order gives the same tokens with the same ids.

    Args:
        texts: read once, in bounded batches; special tokens in them count as plain text.
        vocab_size: special tokens, alphabet and merged tokens.
        allow_smaller: take as many tokens as the texts support where that is fewer.
        progress: called now and then with the number of tokens so far and vocab_size.

    Raises:
        ValueError: the texts do not support vocab_size tokens, and allow_smaller is not set; or
            the alphabet alone is larger.
    """
    normalizer, pretokenizer = settings.normalizer, settings.pretokenizer
    trainer = _tokenizer.WordPieceTrainer(
        None if normalizer is None else normalizer.build(),
        None if pretokenizer is None else pretokenizer.build(),
    )
    feed(trainer, texts, available_threads(num_threads))
    tokens = trainer.train(
        vocab_size,
        settings.special_tokens,
        settings.min_frequency,
        settings.limit_alphabet,
        settings.initial_alphabet,
        settings.continuing_prefix,
        None if progress is None else lambda done: progress(done, vocab_size),
    )
    if len(tokens) > vocab_size:
        raise ValueError(
            f"vocab_size is {vocab_size}, but special tokens and alphabet alone are {len(tokens)} "
            f"tokens; ask for at least {len(tokens)}, or lower "
            f"limit_alphabet={settings.limit_alphabet}"
        )
    if not allow_smaller:
        require_vocab_size(len(tokens), vocab_size, settings.min_frequency)
    return [token.decode("utf-8") for token in tokens]

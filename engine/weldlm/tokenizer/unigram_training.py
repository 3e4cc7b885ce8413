"""Learns Unigram: counts words in bounded batches of text, then drops pieces of a large set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from weldlm import _tokenizer
from weldlm.tokenizer.parts import Template, TemplatePiece, TokenizerParts
from weldlm.tokenizer.sentencepiece import SpieceNormalizer
from weldlm.tokenizer.spiece_model import PieceKind, SpieceModel, spiece_parts
from weldlm.tokenizer.training import Progress, available_threads, feed

__all__ = [
    "SENTENCEPIECE_LAYOUT",
    "T5_LAYOUT",
    "SpecialLayout",
    "UnigramSettings",
    "train_unigram",
]

_NUM_SEEDS = 1_000_000
_NORMALIZER = SpieceNormalizer()


@dataclass(frozen=True, slots=True)
class SpecialLayout:
    """The tokens that take the ids from 0, and which of them stand around a text."""

    tokens: tuple[str, ...]
    unknown_token: str = "<unk>"  # one of `tokens`; the others are control tokens
    end_token: str | None = None  # one of `tokens` that follows each text, None for none

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens) or "" in self.tokens:
            raise ValueError(f"tokens={self.tokens} holds a token twice or an empty one")
        for name in ("unknown_token", "end_token"):
            token = getattr(self, name)
            if token not in self.tokens and (name, token) != ("end_token", None):
                raise ValueError(f"{name}={token!r}, expected one of tokens={self.tokens}")

    def template(self) -> Template:
        """What stands around one text, and around a pair."""
        if self.end_token is None:
            return Template()
        end = TemplatePiece((self.tokens.index(self.end_token),))
        first, second = TemplatePiece("A"), TemplatePiece("B")
        return Template((first, end), (first, end, second, end))


SENTENCEPIECE_LAYOUT = SpecialLayout(("<unk>", "<s>", "</s>"))
T5_LAYOUT = SpecialLayout(("<pad>", "</s>", "<unk>"), end_token="</s>")


def _require_metaspaces(normalizer: SpieceNormalizer) -> None:
    if not normalizer.escape_whitespaces or normalizer.treat_whitespace_as_suffix:
        raise ValueError(
            f"normalizer is {normalizer}, expected escape_whitespaces=True and "
            "treat_whitespace_as_suffix=False: words begin at U+2581"
        )
    if normalizer.kept:
        raise ValueError(f"normalizer keeps {normalizer.kept}, expected no strings")


@dataclass(frozen=True, slots=True)
class UnigramSettings:
    """What is learned, by the rules of the trainer of sentencepiece."""

    layout: SpecialLayout = SENTENCEPIECE_LAYOUT  # special tokens and their ids
    byte_fallback: bool = False  # unknown characters become tokens of bytes, behind the special
    normalizer: SpieceNormalizer = _NORMALIZER  # texts go through it here and later
    character_coverage: float = 0.9995  # share of the text that characters with a token make up
    max_piece_length: int = 16  # in characters
    num_sub_iterations: int = 2  # steps of EM between two removals of pieces
    shrinking_factor: float = 0.75  # share of the pieces that a removal keeps

    def __post_init__(self) -> None:
        _require_metaspaces(self.normalizer)

    def special_pieces(self) -> dict[str, PieceKind]:
        """Tokens that are not learned, by id."""
        kinds = dict.fromkeys(self.layout.tokens, PieceKind.CONTROL)
        kinds[self.layout.unknown_token] = PieceKind.UNKNOWN
        if self.byte_fallback:
            kinds |= {f"<0x{byte:02X}>": PieceKind.BYTE for byte in range(256)}
        return kinds


def train_unigram(
    texts: Iterable[str],
    vocab_size: int,
    settings: UnigramSettings = UnigramSettings(),
    *,
    allow_smaller: bool = False,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> TokenizerParts:
    """Learns a vocabulary as the trainer of sentencepiece does; a text is one of its sentences.

    Args:
        texts: read once, in bounded batches; special tokens in them count as plain text.
        vocab_size: special tokens, characters and longer pieces.
        allow_smaller: take as many pieces as the texts support where that is fewer.
        progress: called now and then with the number of pieces that are left and vocab_size.

    Raises:
        ValueError: the texts do not support vocab_size tokens, and allow_smaller is not set; or
            their characters alone are more.
    """
    special = settings.special_pieces()
    threads = available_threads(num_threads)
    trainer = _tokenizer.UnigramTrainer(settings.normalizer.build())
    feed(trainer, texts, threads)
    pieces, scores = trainer.train(
        vocab_size,
        len(special),
        settings.character_coverage,
        settings.max_piece_length,
        _NUM_SEEDS,
        settings.num_sub_iterations,
        settings.shrinking_factor,
        threads,
        None if progress is None else lambda left: progress(left, vocab_size),
    )
    # a special token is no piece of text, so one that was found too is left out
    rows = [
        (piece.decode(), score)
        for piece, score in zip(pieces, scores.tolist(), strict=True)
        if piece.decode() not in special
    ]
    _require_size(len(special) + len(rows), vocab_size, allow_smaller)
    return _parts(settings, special, rows)


def _parts(
    settings: UnigramSettings, special: dict[str, PieceKind], rows: Sequence[tuple[str, float]]
) -> TokenizerParts:
    model = SpieceModel(
        pieces=[*special, *(piece for piece, _ in rows)],
        scores=np.array([0.0] * len(special) + [score for _, score in rows], dtype=np.float32),
        kinds=np.array([*special.values(), *[PieceKind.NORMAL] * len(rows)], dtype=np.uint8),
        byte_fallback=settings.byte_fallback,
        charsmap=settings.normalizer.charsmap,
        add_dummy_prefix=settings.normalizer.add_dummy_prefix,
        remove_extra_whitespaces=settings.normalizer.remove_extra_whitespaces,
    )
    return spiece_parts(model, template=settings.layout.template())


def _require_size(num_tokens: int, vocab_size: int, allow_smaller: bool) -> None:
    if num_tokens > vocab_size:
        raise ValueError(
            f"vocab_size is {vocab_size}, but special tokens and characters alone are "
            f"{num_tokens} tokens; ask for at least {num_tokens}, or lower character_coverage"
        )
    if num_tokens < vocab_size and not allow_smaller:
        raise ValueError(
            f"vocab_size is {vocab_size}, but these texts support {num_tokens} tokens; give more "
            f"text, or ask for {num_tokens} or fewer"
        )

"""Learning a tokenizer by the name of its algorithm."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from weldlm.tokenizer.arguments import require_count
from weldlm.tokenizer.bert import WordPieceDecoder, WordPieceModel, bert_template
from weldlm.tokenizer.parts import AddedToken, Template, TokenizerParts
from weldlm.tokenizer.special_roles import roles_of_names
from weldlm.tokenizer.tokenizer_config import TokenizerConfig
from weldlm.tokenizer.training import BpeSettings, Progress, require_special_tokens, train_bpe
from weldlm.tokenizer.unigram_training import SpecialLayout, UnigramSettings, train_unigram
from weldlm.tokenizer.wordpiece_training import WordPieceSettings, train_wordpiece

__all__ = ["ALGORITHMS", "Algorithm", "Settings", "learn", "settings_of"]

Algorithm: TypeAlias = Literal["bpe", "wordpiece", "unigram"]
Settings: TypeAlias = BpeSettings | WordPieceSettings | UnigramSettings

ALGORITHMS: tuple[Algorithm, ...] = ("bpe", "wordpiece", "unigram")

_UNKNOWN = "[UNK]"


def settings_of(
    algorithm: Algorithm | Settings,
    *,
    special_tokens: Sequence[str] | None = None,
    min_frequency: int | None = None,
) -> Settings:
    """The settings of an algorithm, with what is given in place of their own.

    Raises:
        ValueError: there is no such algorithm, or it has no min_frequency.
    """
    settings = _named(algorithm) if isinstance(algorithm, str) else algorithm
    if isinstance(settings, UnigramSettings):
        if min_frequency is not None:
            raise ValueError(
                f"min_frequency is {min_frequency}, but Unigram merges no pairs; leave it out"
            )
        if special_tokens is None:
            return settings
        require_special_tokens(special_tokens)
        unknown, end = settings.layout.unknown_token, settings.layout.end_token
        end = end if end in special_tokens else None
        return replace(settings, layout=SpecialLayout(tuple(special_tokens), unknown, end))
    if special_tokens is not None:
        settings = replace(settings, special_tokens=special_tokens)
    return settings if min_frequency is None else replace(settings, min_frequency=min_frequency)


def learn(
    texts: Iterable[str],
    vocab_size: int,
    settings: Settings,
    *,
    allow_smaller: bool,
    num_threads: int | None,
    progress: Progress | None,
) -> tuple[TokenizerParts, TokenizerConfig]:
    """Learns the parts of a tokenizer and which roles its special tokens have.

    Raises:
        ValueError: the texts do not support vocab_size tokens, and allow_smaller is not set.
    """
    vocab_size = require_count("vocab_size", vocab_size)
    match settings:
        case BpeSettings():
            parts = train_bpe(
                texts,
                vocab_size,
                settings,
                allow_smaller=allow_smaller,
                num_threads=num_threads,
                progress=progress,
            )
        case WordPieceSettings():
            _require_unknown(settings)
            tokens = train_wordpiece(
                texts,
                vocab_size,
                settings,
                allow_smaller=allow_smaller,
                num_threads=num_threads,
                progress=progress,
            )
            parts = _wordpiece_parts(tokens, settings)
        case UnigramSettings():
            parts = train_unigram(
                texts,
                vocab_size,
                settings,
                allow_smaller=allow_smaller,
                num_threads=num_threads,
                progress=None if progress is None else _Countdown(progress),
            )
            parts = _with_unknown(parts, settings.layout)
    names = [parts.tokens[i].decode() for i in range(len(_special_tokens(settings)))]
    return parts, TokenizerConfig(roles=roles_of_names(names))


class _Countdown:
    """Reports pieces that are left as pieces that are gone."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._most = 0

    def __call__(self, left: int, vocab_size: int) -> None:
        self._most = max(self._most, left)
        self._progress(self._most - left, max(self._most - vocab_size, 1))


def _named(name: str) -> Settings:
    match name:
        case "bpe":
            return BpeSettings()
        case "wordpiece":
            return WordPieceSettings()
        case "unigram":
            return UnigramSettings()
    raise ValueError(f"algorithm is {name!r}; expected {', '.join(ALGORITHMS)}")


def _require_unknown(settings: WordPieceSettings) -> None:
    if _UNKNOWN not in settings.special_tokens:
        raise ValueError(
            f"special_tokens={tuple(settings.special_tokens)} has no {_UNKNOWN!r}, which stands "
            "for words that cannot be spelled; add it"
        )


def _special_tokens(settings: Settings) -> Sequence[str]:
    if isinstance(settings, UnigramSettings):
        return settings.layout.tokens
    return settings.special_tokens


def _with_unknown(parts: TokenizerParts, layout: SpecialLayout) -> TokenizerParts:
    """The unknown token is found in text as the others are, which is so in a saved file too."""
    unknown = AddedToken(layout.unknown_token, layout.tokens.index(layout.unknown_token))
    added_tokens = sorted((*parts.added_tokens, unknown), key=lambda token: token.id)
    return replace(parts, added_tokens=tuple(added_tokens))


def _wordpiece_parts(tokens: list[str], settings: WordPieceSettings) -> TokenizerParts:
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    surrounds = {"[CLS]", "[SEP]"} <= set(settings.special_tokens)
    normalizer = settings.normalizer
    return TokenizerParts(
        tokens=[token.encode() for token in tokens],
        model=WordPieceModel(len(tokens), _UNKNOWN, continuing_prefix=settings.continuing_prefix),
        added_tokens=tuple(AddedToken(token, ids[token]) for token in settings.special_tokens),
        normalizers=() if normalizer is None else (normalizer,),
        pretokenizer=settings.pretokenizer,
        decoder=WordPieceDecoder(settings.continuing_prefix),
        template=bert_template(ids["[CLS]"], ids["[SEP]"]) if surrounds else Template(),
    )

"""Rank files of tiktoken: a token in base64 and its rank a line.

The rank is the id. A file holds neither the pattern nor the special tokens: those of well-known
files are in a table here, all others must be given.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from weldlm.atomic_file import replace_text
from weldlm.tokenizer.bpe import BpeModel, Pattern, RankedBpeModel
from weldlm.tokenizer.json_ranks import require_ranks
from weldlm.tokenizer.json_vocabulary import most_id
from weldlm.tokenizer.parts import AddedToken, Pretokenizer, TokenizerParts
from weldlm.tokenizer.pattern_families import family_of
from weldlm.tokenizer.regex_pattern import RegexPattern

__all__ = ["KNOWN_RANKS", "KnownRanks", "RankRules", "read_tiktoken", "write_tiktoken"]


@dataclass(frozen=True, slots=True)
class KnownRanks:
    """What a rank file does not say."""

    family: str  # of the pattern
    special_tokens: Mapping[str, int]
    num_ranks: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RankRules:
    """What the reader of a rank file says about it, None where the file is to be known."""

    pattern: str | None = None  # the regular expression that splits text
    special_tokens: Mapping[str, int] | None = None  # and their ids

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str | None):
            raise TypeError(
                f"pattern is a {type(self.pattern).__name__}, expected a regular expression as str"
            )
        if not isinstance(self.special_tokens, Mapping | None):
            raise TypeError(
                f"special_tokens is a {type(self.special_tokens).__name__}, expected a dict of "
                "tokens and their ids"
            )
        for content, token_id in (self.special_tokens or {}).items():
            if not isinstance(content, str) or type(token_id) is not int:
                raise TypeError(
                    f"special_tokens holds {content!r}: {token_id!r}, expected a str and its id"
                )


_END = "<|endoftext|>"
_QWEN_SPECIALS = (_END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))

# by the usual name of the file without its end
KNOWN_RANKS = {
    "r50k_base": KnownRanks(
        "gpt2",
        {_END: 50256},
        50256,
        "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    ),
    "p50k_base": KnownRanks(
        "gpt2",
        {_END: 50256},
        50280,
        "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    ),
    "cl100k_base": KnownRanks(
        "cl100k",
        {
            _END: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
        100256,
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": KnownRanks(
        "o200k",
        {_END: 199999, "<|endofprompt|>": 200018},
        199998,
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "qwen": KnownRanks(
        "qwen2",
        {token: 151643 + i for i, token in enumerate(_QWEN_SPECIALS)},
        151643,
        "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
    ),
}


def read_tiktoken(
    path: Path,
    *,
    pattern: str | None = None,
    special_tokens: Mapping[str, int] | None = None,
) -> TokenizerParts:
    """Reads a rank file.

    Args:
        pattern: the regular expression that splits text (`pat_str` of tiktoken). A file that is
            known by its content, or by its name and the number of its ranks, has one.
        special_tokens: ids of the special tokens; a known file has some.

    Raises:
        ValueError: a line is damaged, an id is taken twice, or the pattern is not known.
    """
    data = path.read_bytes()
    ranked = _tokens(data)
    known = _known(path, data, num_ranks=sum(map(bool, ranked)))
    if special_tokens is None:
        special_tokens = {} if known is None else known.special_tokens
    tokens = _with_special_tokens(ranked, special_tokens)
    added = tuple(AddedToken(content, token_id) for content, token_id in special_tokens.items())
    return TokenizerParts(
        tokens=tokens,
        model=RankedBpeModel(hidden_ids=tuple(special_tokens.values())),
        added_tokens=added,
        pretokenizer=_pretokenizer(path, pattern, known),
    )


def write_tiktoken(path: Path, parts: TokenizerParts) -> None:
    """Writes the ranks, whole or not at all; pattern and special tokens have no place in the file.

    Merges are written as ranks where these say the same, as those that are learned do.

    Raises:
        ValueError: the model says what ranks cannot.
    """
    model = parts.model
    match model:
        case RankedBpeModel():
            hidden = set(model.hidden_ids)
        case BpeModel():
            require_ranks(model, parts.tokens)
            hidden = {token.id for token in parts.added_tokens}
            hidden |= set(range(model.num_tokens or len(parts.tokens), len(parts.tokens)))
        case _:
            raise ValueError(
                f"the model is {model.algorithm}, expected byte-level BPE: a rank file says that "
                "two tokens merge wherever their bytes together are a token"
            )
    lines = [
        f"{base64.b64encode(token).decode('ascii')} {rank}\n"
        for rank, token in enumerate(parts.tokens)
        if token and rank not in hidden
    ]
    replace_text(path, "".join(lines))


def _known(path: Path, data: bytes, num_ranks: int) -> KnownRanks | None:
    digest = hashlib.sha256(data).hexdigest()
    for known in KNOWN_RANKS.values():
        if known.sha256 == digest:
            return known
    # the same ranks, written in another way
    named = KNOWN_RANKS.get(path.name.removesuffix(".tiktoken"))
    return named if named is not None and named.num_ranks == num_ranks else None


def _pretokenizer(path: Path, pattern: str | None, known: KnownRanks | None) -> Pretokenizer:
    if pattern is not None:
        family = family_of(pattern, "tiktoken")
        if family is None:
            return RegexPattern(pattern, "tiktoken", "matches")
        return Pattern(family)
    if known is None:
        raise ValueError(
            f"the ranks in {path.name} do not say how text is split, and the file is none of "
            f"{sorted(KNOWN_RANKS)}: call Tokenizer.from_file with pattern and special_tokens"
        )
    return Pattern(known.family)


def _tokens(data: bytes) -> list[bytes]:
    """The token of each rank, empty where there is none."""
    ranks: dict[bytes, int] = {}
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            token, rank = _parse(line, number, most=2 * len(lines) + 1024)
            if token in ranks:
                raise ValueError(f"line {number}: the token {token!r} has a rank already")
            ranks[token] = rank
    tokens = [b""] * (max(ranks.values(), default=-1) + 1)
    for token, rank in ranks.items():
        if tokens[rank]:
            raise ValueError(f"the rank {rank} is given to {tokens[rank]!r} and {token!r}")
        tokens[rank] = token
    return tokens


def _parse(line: bytes, number: int, most: int) -> tuple[bytes, int]:
    """The token and the rank of a line; ranks are at most `most`."""
    cells = line.split()
    if len(cells) != 2:
        raise ValueError(
            f"line {number} is {line[:60]!r}, expected a token in base64, a space and its rank"
        )
    try:
        token = base64.b64decode(cells[0], validate=True)
    except binascii.Error as error:
        raise ValueError(f"line {number}: {cells[0][:60]!r} is not base64: {error}") from error
    if not token:
        raise ValueError(f"line {number}: the token is empty")
    if not cells[1].isdigit() or len(cells[1]) > 10 or int(cells[1]) > most:
        raise ValueError(f"line {number}: the rank is {cells[1][:60]!r}, expected 0 to {most}")
    return token, int(cells[1])


def _with_special_tokens(tokens: list[bytes], special_tokens: Mapping[str, int]) -> list[bytes]:
    most = most_id(sum(map(bool, tokens)) + len(special_tokens))
    for content, token_id in special_tokens.items():
        if not 0 <= token_id <= most:
            raise ValueError(
                f"the special token {content!r} has the id {token_id}, expected 0 to {most}"
            )
    size = max([len(tokens) - 1, *special_tokens.values()]) + 1
    all_tokens = tokens + [b""] * (size - len(tokens))
    for content, token_id in special_tokens.items():
        if all_tokens[token_id]:
            raise ValueError(
                f"the special token {content!r} has the id {token_id}, which is that of "
                f"{all_tokens[token_id]!r}"
            )
        all_tokens[token_id] = content.encode("utf-8", "replace")
    return all_tokens

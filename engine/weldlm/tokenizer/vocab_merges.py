"""The two files of GPT-2: vocab.json with the ids of the tokens, merges.txt with a merge a line."""

from collections.abc import Sequence
from pathlib import Path

from weldlm.tokenizer.bpe import Pattern
from weldlm.tokenizer.json_bpe import read_bpe
from weldlm.tokenizer.json_fields import parse_json
from weldlm.tokenizer.json_vocabulary import spell_tokens
from weldlm.tokenizer.parts import AddedToken, Pretokenizer, TokenizerParts

__all__ = ["read_vocab_merges"]

_END_OF_TEXT = "<|endoftext|>"
_GPT2 = Pattern("gpt2")


def read_vocab_merges(
    vocab: Path,
    merges: Path,
    *,
    special_tokens: Sequence[str] | None = None,
    pretokenizer: Pretokenizer = _GPT2,
) -> TokenizerParts:
    """Reads a vocabulary and its merges.

    Args:
        special_tokens: tokens of the vocabulary that are special, by default <|endoftext|> where
            it is one of them.
        pretokenizer: the files do not say how text is split; GPT-2 and RoBERTa do it like this.

    Raises:
        ValueError: a file is damaged, or a special token has no id.
    """
    lines = _lines(merges)
    ids = parse_json(vocab.read_bytes())
    try:
        named = read_bpe({"type": "BPE", "vocab": ids, "merges": lines})
    except ValueError as error:
        raise ValueError(f"{vocab.name} and {merges.name}: {error}") from error
    token_ids = {name: token_id for token_id, name in enumerate(named.names) if name}
    if special_tokens is None:
        special_tokens = [_END_OF_TEXT] if _END_OF_TEXT in token_ids else []
    for content in special_tokens:
        if content not in token_ids:
            raise ValueError(f"{vocab.name} has no id for the special token {content!r}")
    added = tuple(AddedToken(content, token_ids[content]) for content in special_tokens)
    return TokenizerParts(
        tokens=spell_tokens(named, added),
        model=named.model,
        added_tokens=added,
        pretokenizer=pretokenizer,
    )


def _lines(path: Path) -> list[list[str]]:
    """Left and right of each merge."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name}: invalid UTF-8 at byte {error.start}") from error
    pairs: list[list[str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if line.startswith("#version") or not line:
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise ValueError(
                f"{path.name}, line {number} is {line[:60]!r}, expected two tokens and a space "
                "between them"
            )
        pairs.append(pair)
    return pairs

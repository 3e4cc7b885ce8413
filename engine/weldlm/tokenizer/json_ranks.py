"""A rank file of tiktoken in the terms of tokenizer.json, and merges in those of a rank file.

Two tokens merge wherever their bytes together are a token, the one of the lowest rank first: a
merge for each way to split each token, in the order of the ranks, says the same. Of these only one
is ever used: what the bytes of a token have become just before they are that token does not depend
on what stands around them.
"""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from weldlm import _tokenizer
from weldlm.tokenizer.bpe import BpeModel, RankedBpeModel
from weldlm.tokenizer.byte_characters import characters_from_bytes
from weldlm.tokenizer.parts import TokenizerParts

__all__ = ["ranks_as_merges", "require_ranks"]


def ranks_as_merges(parts: TokenizerParts) -> TokenizerParts:
    """The parts with merges where they have ranks; others stay as they are.

    Raises:
        ValueError: two tokens would have the same name.
    """
    if not isinstance(parts.model, RankedBpeModel):
        return parts
    hidden = set(parts.model.hidden_ids)
    ranked = [b"" if i in hidden else token for i, token in enumerate(parts.tokens)]
    _require_names(parts, hidden)
    # bytes without a token are left out by the tokenizers library, and refused by tiktoken
    merges = _tokenizer.ByteBpe.of_ranks(_tokenizer.Vocabulary(ranked)).merges()
    model = BpeModel(merges, ignore_merges=True, hidden_ids=parts.model.hidden_ids)
    return replace(parts, model=model)


def require_ranks(model: BpeModel, tokens: list[bytes]) -> None:
    """Raises ValueError unless the ids of the tokens, taken for ranks, say what the merges say."""
    merges = {merged: (left, right) for left, right, merged in model.merges.tolist()}
    order = model.merges[:, 2].tolist()
    if any(first >= second for first, second in pairwise(order)):
        raise ValueError("a rank file cannot say merges that are not in the order of their tokens")
    ranks = {token: rank for rank, token in enumerate(tokens) if len(token) == 1 or rank in merges}
    for merged, pair in merges.items():
        found = _last_pair(tokens[merged], ranks)
        if found != tuple(tokens[part] for part in pair):
            raise ValueError(
                f"a rank file cannot say that {tokens[merged]!r} is made of "
                f"{' and '.join(repr(tokens[part]) for part in pair)}: its bytes become {found}"
            )


def _last_pair(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, ...]:
    """What the bytes of a token have become just before they are that token."""
    parts = [bytes([byte]) for byte in token]
    own = ranks[token]
    while len(parts) > 2:
        found = [ranks.get(left + right, own) for left, right in pairwise(parts)]
        least = min(found)
        if least >= own:
            break
        place = found.index(least)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return tuple(parts)


def _require_names(parts: TokenizerParts, hidden: set[int]) -> None:
    names = Counter(
        token.decode("utf-8", "replace") if i in hidden else characters_from_bytes(token)
        for i, token in enumerate(parts.tokens)
        if token
    )
    name, count = names.most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise ValueError(
            f"tokenizer.json cannot say that a special token and another one are spelled {name!r}"
        )

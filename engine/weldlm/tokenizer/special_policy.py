"""Which special tokens a text may hold: allowed ones become ids, disallowed ones are refused."""

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

from weldlm.tokenizer.arguments import require_iterable

__all__ = ["SpecialTokens", "special_policy"]

SpecialTokens: TypeAlias = Collection[str] | Literal["all"]


def special_policy(
    special_tokens: Mapping[str, int], allowed: SpecialTokens, disallowed: SpecialTokens
) -> tuple[list[int], list[int]]:
    """Ids of the allowed and of the disallowed tokens; those that are neither are plain text.

    Raises:
        TypeError: allowed or disallowed ones are neither "all" nor several str.
        ValueError: a token that is no special token is named.
    """
    if allowed == () and disallowed == "all":
        return [], list(special_tokens.values())
    allowed_ids = _ids_of("allowed_special", allowed, special_tokens)
    disallowed_ids = _ids_of("disallowed_special", disallowed, special_tokens)
    if disallowed == "all":
        disallowed_ids = sorted(set(disallowed_ids) - set(allowed_ids))
    return allowed_ids, disallowed_ids


def _ids_of(argument: str, tokens: SpecialTokens, special_tokens: Mapping[str, int]) -> list[int]:
    if isinstance(tokens, str):
        if tokens != "all":
            raise TypeError(f"{argument} is the str {tokens!r}, expected 'all' or {{{tokens!r}}}")
        return list(special_tokens.values())
    require_iterable(argument, tokens, "'all' or several str")
    for token in tokens:
        if not isinstance(token, str):
            raise TypeError(f"{argument} holds {token!r}, expected 'all' or several str")
        if token not in special_tokens:
            raise ValueError(
                f"{argument} holds {token!r}, which is no special token; expected some of "
                f"{sorted(special_tokens)}"
            )
    return [special_tokens[token] for token in tokens]

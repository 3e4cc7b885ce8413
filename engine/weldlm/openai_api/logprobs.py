"""Log-probabilities of tokens in the two shapes of the OpenAI API."""

from collections.abc import Sequence
from typing import Any

from weldlm.token_logprobs import TokenLogprob
from weldlm.tokenizer import Tokenizer

__all__ = ["chat_logprobs", "completion_logprobs"]


def completion_logprobs(
    tokenizer: Tokenizer, logprobs: Sequence[TokenLogprob], *, first_id: int | None = None
) -> dict[str, Any]:
    """Columns, as /v1/completions has them.

    Args:
        tokenizer: spells the tokens.
        logprobs: of tokens that follow each other.
        first_id: stands before them and follows nothing.
    """
    ids = [*([] if first_id is None else [first_id]), *(token.id for token in logprobs)]
    tokens = [_name(_spell(tokenizer, token_id)) for token_id in ids]
    before: list[None] = [] if first_id is None else [None]
    offsets, place = [], 0
    for token_id in ids:
        offsets.append(place)
        place += len(_spell(tokenizer, token_id).decode("utf-8", "ignore"))
    return {
        "tokens": tokens,
        "token_logprobs": [*before, *(token.logprob for token in logprobs)],
        "top_logprobs": [*before, *(_top(tokenizer, token) for token in logprobs)],
        "text_offset": offsets,
    }


def chat_logprobs(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """An object for each token, as /v1/chat/completions has them."""
    content = [
        {
            **_entry(tokenizer, token.id, token.logprob),
            "top_logprobs": [_entry(tokenizer, *pair) for pair in token.top],
        }
        for token in logprobs
    ]
    return {"content": content, "refusal": None}


def _top(tokenizer: Tokenizer, token: TokenLogprob) -> dict[str, float]:
    """The most probable tokens and the one that stands there."""
    pairs = [*token.top, (token.id, token.logprob)]
    return {_name(_spell(tokenizer, token_id)): logprob for token_id, logprob in pairs}


def _entry(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    spelled = _spell(tokenizer, token_id)
    return {"token": spelled.decode("utf-8", "replace"), "logprob": logprob, "bytes": [*spelled]}


def _spell(tokenizer: Tokenizer, token_id: int) -> bytes:
    """Its bytes; ids behind the tokenizer's vocabulary have none."""
    return b"" if token_id >= tokenizer.vocab_size else tokenizer.text_of(token_id, is_first=False)


def _name(spelled: bytes) -> str:
    """A text, also of part of a character, that no other token has."""
    try:
        return spelled.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)

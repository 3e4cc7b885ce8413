"""Chat messages to the ids of a prompt, as the model's template spells them."""

from collections.abc import Mapping, Sequence
from typing import Any

from weldlm.config import ModelConfig
from weldlm.prompt import encode_prompt
from weldlm.tokenizer import Tokenizer

__all__ = ["encode_chat"]


def encode_chat(
    config: ModelConfig, tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Returns the ids of a chat and of what begins the answer, checked against the model.

    Special tokens in the messages are plain text.

    Args:
        config: the model's.
        tokenizer: the model's.
        messages: with "role" and "content", a text or parts {"type": "text", "text": text}.

    Raises:
        ValueError: a message is not of that form, there is no template, it refuses the messages,
            or the chat does not fit into the model's context.
    """
    plain = [_plain(message, place) for place, message in enumerate(messages)]
    if not plain:
        raise ValueError("messages is empty; expected at least one")
    ids = tokenizer.apply_chat_template(plain, add_generation_prompt=True, trusts_contents=False)
    assert isinstance(ids, list)
    return encode_prompt(config, None, ids)


def _plain(message: Any, place: int) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(
            f"message {place} has no role; expected an object with 'role' and 'content'"
        )
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text(part, place) for part in content)
    if not isinstance(content, str):
        raise ValueError(
            f"message {place} has the content {str(content)[:40]!a}; expected a text, or a list "
            "of text parts"
        )
    return {**message, "content": content}


def _text(part: Any, place: int) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise ValueError(
            f"message {place} has the part {str(part)[:40]!a}; expected "
            "{'type': 'text', 'text': text}, because the model reads nothing but text"
        )
    return text

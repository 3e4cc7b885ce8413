"""What generation starts from: the ids of a prompt, checked against the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

from weldlm.config import ModelConfig
from weldlm.tokenizer import Tokenizer

__all__ = ["Prompt", "encode_prompt", "end_of_text_id", "num_first_ids"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Where a sequence starts, or the source that it is made from."""

    row_id: int  # names the row's stream of random draws
    ids: Sequence[int]

    def split(self, config: ModelConfig) -> tuple[list[int], list[int]]:
        """What an encoder reads, nothing where there is none, and what the sequence begins with.

        Raises:
            ValueError: the model is an encoder-decoder whose targets begin with nothing.
        """
        if not config.has_cross_attention:
            return [], list(self.ids)
        if config.decoder_start_id is None:
            raise ValueError(
                "the model has no decoder_start_id; expected the id that its targets begin with; "
                "set decoder_start_token_id in its config.json"
            )
        return list(self.ids), [config.decoder_start_id]


def num_first_ids(config: ModelConfig, num_prompt_ids: int) -> int:
    """Number of ids that the sequence of a prompt begins with."""
    return 1 if config.has_cross_attention else num_prompt_ids


def encode_prompt(
    config: ModelConfig, tokenizer: Tokenizer | None, prompt: str | Sequence[int]
) -> list[int]:
    """Returns the ids that a prompt starts with, checked against the model.

    An empty prompt becomes the model's first token (bos, else eos).

    Raises:
        ValueError: see `generate`.
        TypeError: the prompt is neither text nor a sequence of integers.
    """
    if not isinstance(prompt, str):
        ids = _plain_ids(prompt)
    elif tokenizer is None:
        raise ValueError(
            f"the prompt is the text {prompt[:40]!r}; expected ids, or pass a tokenizer"
        )
    else:
        ids = _encode(tokenizer, prompt)
    ids = ids or _first_ids(config, tokenizer)
    _check_length(config, len(ids))
    outside = [token_id for token_id in ids if not 0 <= token_id < config.vocab_size]
    if outside:
        raise ValueError(
            f"the prompt has the id {outside[0]}; expected 0 to {config.vocab_size - 1}, the "
            "model's vocabulary; use the tokenizer that the model was trained with"
        )
    return ids


def end_of_text_id(config: ModelConfig, tokenizer: Tokenizer | None) -> int | None:
    """What ends a sequence: the model's eos, else the tokenizer's."""
    if config.eos_id is not None or tokenizer is None:
        return config.eos_id
    return tokenizer.eos_id


def _plain_ids(prompt: Sequence[int]) -> list[int]:
    try:
        if isinstance(prompt, bytes):
            raise TypeError  # its items are integers, but no ids
        return [index(token_id) for token_id in prompt]
    except TypeError:
        raise TypeError(
            f"the prompt is {str(prompt)[:40]} ({type(prompt).__name__}); expected a text, or ids "
            "that are integers; decode bytes first"
        ) from None


def _encode(tokenizer: Tokenizer, prompt: str) -> list[int]:
    try:
        return tokenizer.encode(prompt)
    except ValueError as error:
        special = next((token for token in tokenizer.special_tokens if token in prompt), None)
        if special is None:
            raise
        raise ValueError(
            f"the prompt holds the special token {special!r}; expected text; leave it out, or give "
            "ids where it shall take effect"
        ) from error


def _check_length(config: ModelConfig, num_ids: int) -> None:
    if config.has_cross_attention:
        # relative positions have no end
        if num_ids > config.context_length and config.positions != "relative":
            raise ValueError(
                f"the prompt has {num_ids} tokens; expected at most the model's context_length "
                f"{config.context_length}; shorten the prompt"
            )
    elif num_ids >= config.context_length:
        raise ValueError(
            f"the prompt has {num_ids} tokens; expected fewer than the model's context_length "
            f"{config.context_length}, so that a new one fits; shorten the prompt"
        )


def _first_ids(config: ModelConfig, tokenizer: Tokenizer | None) -> list[int]:
    eos_id = end_of_text_id(config, tokenizer)
    first = config.bos_id if config.bos_id is not None else eos_id
    if first is None:
        raise ValueError(
            "the prompt is empty; expected text, because the model has no bos_id or eos_id to "
            "start from"
        )
    return [first]

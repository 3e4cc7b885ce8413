"""Pretraining from text: what a model of each kind is asked, and the tokenizer that it needs.

Decoders write the next token, encoders name tokens that were hidden from them, encoder-decoders
write the spans that gave way to sentinels.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from weldlm.config import ModelConfig
from weldlm.objectives import (
    CausalLMObjective,
    MaskedLMObjective,
    SpanCorruptionObjective,
    TokenObjective,
    word_starts,
)
from weldlm.tokenizer import Tokenizer, UnigramSettings
from weldlm.tokenizer.unigram_training import SpecialLayout

__all__ = ["PretrainSettings", "adapt_config", "build_objective", "tokenizer_options"]

_NUM_SENTINELS = 100
_SENTINELS = tuple(f"<extra_id_{index}>" for index in reversed(range(_NUM_SENTINELS)))
_FIRST_SENTINEL = "<extra_id_0>"
_PAD, _END = "<pad>", "</s>"


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainSettings:
    """How much text is hidden from encoders and encoder-decoders."""

    hidden_share: float = 0.15  # of the tokens or words that an encoder is asked for
    whole_words: bool = False  # an encoder is asked for all tokens of a word or none
    mean_span: float = 3.0  # tokens that an encoder-decoder writes for a sentinel


def tokenizer_options(config: ModelConfig) -> dict[str, Any]:
    """Returns the options of `Tokenizer.train` that give what the model's kind needs."""
    if config.has_cross_attention:
        layout = SpecialLayout((_PAD, _END, "<unk>", *_SENTINELS), end_token=_END)
        return {"algorithm": UnigramSettings(layout=layout)}
    return {} if config.is_decoder else {"algorithm": "wordpiece"}


def adapt_config(config: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """Returns the configuration with the vocabulary of a tokenizer."""
    changes: dict[str, Any] = {"vocab_size": tokenizer.vocab_size}
    if config.has_cross_attention:
        pad_id, eos_id = _id(tokenizer, "pad_token", _PAD), _id(tokenizer, "eos_token", _END)
        changes |= {"decoder_start_id": pad_id, "pad_id": pad_id, "eos_id": eos_id}
    elif config.is_decoder:
        changes |= {"bos_id": tokenizer.eos_id, "eos_id": tokenizer.eos_id}
    else:
        changes["pad_id"] = _id(tokenizer, "pad_token", "[PAD]")
    return dataclasses.replace(config, **changes)


def build_objective(
    config: ModelConfig, tokenizer: Tokenizer, settings: PretrainSettings, *, seed: int
) -> TokenObjective:
    """Returns what the model is asked of unlabelled text.

    Raises:
        ValueError: the tokenizer lacks a token that this takes.
    """
    if config.has_cross_attention:
        num_sentinels = sum(tokenizer.token_to_id(token) is not None for token in _SENTINELS)
        return SpanCorruptionObjective(
            vocab_size=tokenizer.vocab_size,
            first_sentinel=_id(tokenizer, None, _FIRST_SENTINEL),
            num_sentinels=num_sentinels,
            eos_id=_id(tokenizer, "eos_token", _END),
            start_id=_id(tokenizer, "pad_token", _PAD),
            share=settings.hidden_share,
            mean_span=settings.mean_span,
            seed=seed,
        )
    if config.is_decoder:
        return CausalLMObjective()
    first, last = _id(tokenizer, "cls_token", "[CLS]"), _id(tokenizer, "sep_token", "[SEP]")
    return MaskedLMObjective(
        vocab_size=tokenizer.vocab_size,
        mask_id=_id(tokenizer, "mask_token", "[MASK]"),
        special_ids=sorted(set(tokenizer.special_tokens.values())),
        share=settings.hidden_share,
        word_starts=word_starts(tokenizer) if settings.whole_words else None,
        frame_ids=(first, last),
        seed=seed,
    )


def _id(tokenizer: Tokenizer, role: str | None, token: str) -> int:
    """The id of the token with a role, or of this name."""
    found = None if role is None else tokenizer.role_id(role)
    found = tokenizer.token_to_id(token) if found is None else found
    if found is None:
        raise ValueError(
            f"the tokenizer has no {role or token}, such as {token}; expected one for this kind of "
            "model: give another tokenizer, or none, so that one is learned"
        )
    return found

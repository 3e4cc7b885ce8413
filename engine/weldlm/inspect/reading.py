"""A text as a model reads it: its ids, how its tokens are called, and what the model says of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from weldlm.config import ModelConfig
from weldlm.encoding import mask_token
from weldlm.generation import generate
from weldlm.heads import MaskedLM, Model, Seq2SeqLM
from weldlm.heads.language import VocabularyModel
from weldlm.inspect.sample import Sample
from weldlm.prompt import Prompt, end_of_text_id
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

__all__ = ["Reading", "baseline_of", "name_of_score", "name_of_token", "read_text"]

_MOST_WRITTEN = 32  # tokens of a target that the model writes itself
_BASELINE_ROLES = ("pad_token", "eos_token", "bos_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A text, and for an encoder-decoder what is written for it."""

    sample: Sample
    tokens: tuple[str, ...]  # of `sample.ids`
    target_tokens: tuple[str, ...] = ()  # of `sample.target_ids`
    written_ids: Tensor | None = None  # what the decoder writes, one for each of its tokens
    is_own_target: bool = False  # the model wrote it
    masked: tuple[int, ...] = ()  # places of masks


def read_text(
    model: Model,
    tokenizer: Tokenizer,
    text: str,
    target_text: str | None = None,
    *,
    max_length: int = 128,
) -> Reading:
    """Encodes a text for a model.

    Args:
        model: any.
        tokenizer: that of the model.
        text: at least one token; a masked language model takes its mask token in it.
        target_text: of an encoder-decoder, which writes one itself where None.
        max_length: most tokens of the text, and of the target.

    Raises:
        ValueError: the text is empty or too long, or there is a target and no decoder for it.
    """
    if target_text is not None and not isinstance(model, Seq2SeqLM):
        raise ValueError(
            f"target_text was given to a model with the head {model.kind}; expected one only for "
            "an encoder-decoder; leave it out"
        )
    mask = mask_token(tokenizer) if isinstance(model, MaskedLM) else None
    ids = tokenizer.encode(text, allowed_special=[mask] if mask else ())
    _check_ids("text", ids, model, max_length)
    tokens = tuple(name_of_token(tokenizer, token_id) for token_id in ids)
    if isinstance(model, Seq2SeqLM):
        return _with_target(model, tokenizer, ids, tokens, target_text, max_length)
    mask_id = tokenizer.special_tokens.get(mask or "")
    masked = tuple(place for place, token_id in enumerate(ids) if token_id == mask_id)
    return Reading(sample=Sample(torch.tensor(ids)), tokens=tokens, masked=masked)


def name_of_token(tokenizer: Tokenizer, token_id: int) -> str:
    """What the vocabulary holds; bytes that are a part of a character are written out."""
    if not 0 <= token_id < tokenizer.vocab_size:
        return f"id {token_id}"  # a row of the table that no token has
    return tokenizer.id_to_token(token_id).decode("utf-8", "backslashreplace")


def name_of_score(model: Model, tokenizer: Tokenizer, column: int) -> str:
    """Of what the head scores: a token, or a label."""
    if isinstance(model, VocabularyModel):
        return name_of_token(tokenizer, column)
    return model.config.labels[column]


def baseline_of(
    config: ModelConfig, tokenizer: Tokenizer, sample: Sample
) -> tuple[Sample | None, str]:
    """The sample with one token in the place of all that are not special, and that token.

    It is the mask, else what pads, ends or begins a text; none where there are no such tokens.
    """
    token_id = _empty_id(config, tokenizer)
    if token_id is None:
        return None, ""
    kept = torch.tensor(sorted({*tokenizer.special_tokens.values(), token_id}))

    def replaced(ids: Tensor) -> Tensor:
        return torch.where(torch.isin(ids, kept), ids, token_id)

    target_ids = sample.target_ids
    if target_ids is not None:
        target_ids = torch.cat((target_ids[:1], replaced(target_ids[1:])))
    return Sample(replaced(sample.ids), target_ids), name_of_token(tokenizer, token_id)


def _empty_id(config: ModelConfig, tokenizer: Tokenizer) -> int | None:
    """The token that says least."""
    special, roles = tokenizer.special_tokens, tokenizer.config.roles
    ids = [
        special.get(mask_token(tokenizer) or ""),
        *(config.pad_id, config.eos_id, config.bos_id),
        *(special.get(roles.get(role, "")) for role in _BASELINE_ROLES),
    ]
    known = (token_id for token_id in ids if token_id is not None)
    return next((token_id for token_id in known if 0 <= token_id < config.vocab_size), None)


def _with_target(
    model: Seq2SeqLM,
    tokenizer: Tokenizer,
    ids: list[int],
    tokens: tuple[str, ...],
    target_text: str | None,
    max_length: int,
) -> Reading:
    _, start = Prompt(0, ids).split(model.config)
    if target_text is None:
        settings = SamplingSettings(max_tokens=min(_MOST_WRITTEN, max_length))
        written = list(generate(model, tokenizer, [ids], settings)[0].ids)
    else:
        written = tokenizer.encode(target_text)
        end = end_of_text_id(model.config, tokenizer)
        written += [end] if end is not None and written[-1:] != [end] else []
        _check_ids("target_text", written, model, max_length)
    target = [*start, *written[:-1]]
    return Reading(
        sample=Sample(torch.tensor(ids), torch.tensor(target)),
        tokens=tokens,
        target_tokens=tuple(name_of_token(tokenizer, token_id) for token_id in target),
        written_ids=torch.tensor(written),
        is_own_target=target_text is None,
    )


def _check_ids(name: str, ids: list[int], model: Model, max_length: int) -> None:
    if not ids:
        raise ValueError(f"{name} is empty; expected at least one token")
    context_length = model.config.context_length
    if model.config.positions != "relative" and len(ids) > context_length:
        raise ValueError(
            f"{name} has {len(ids)} tokens; expected at most the model's context_length "
            f"{context_length}; shorten it"
        )
    if len(ids) > max_length:
        raise ValueError(
            f"{name} has {len(ids)} tokens; expected at most max_length {max_length}, because maps "
            "grow with the square; shorten it or raise max_length"
        )
    if max(ids) >= model.config.vocab_size:
        raise ValueError(
            f"{name} has the id {max(ids)}; expected 0 to {model.config.vocab_size - 1}, the "
            "model's vocabulary; use the tokenizer that the model was trained with"
        )

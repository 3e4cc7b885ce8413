"""How a call wants tokens chosen: OpenAI's fields, and those that vLLM has beside them."""

import secrets
from dataclasses import replace
from typing import Any, Literal

from weldlm.openai_api.errors import ApiError
from weldlm.openai_api.fields import (
    Fields,
    as_flag,
    as_ids,
    as_integer,
    as_number,
    as_object,
    as_text,
)
from weldlm.sampling_settings import SamplingSettings

__all__ = ["change_settings", "read_settings"]

_INTEGERS = ("min_tokens", "top_k", "n", "best_of", "num_beams", "seed", "no_repeat_ngram")
_NUMBERS = (
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "length_penalty",
)


def read_settings(fields: Fields, *, seed: int | None, **known: Any) -> SamplingSettings:
    """Takes the settings of a call; the temperature is 1 where it gives none, 0 for beams.

    Args:
        fields: of the body.
        seed: of a call that gives none; drawn where None.
        known: settings that were read before.

    Raises:
        ApiError: a field has another type or is out of range.
    """
    given = _take(fields)
    is_search = given.get("num_beams", 1) > 1
    first = {"temperature": 0.0 if is_search else 1.0, "seed": seed}
    if seed is None:
        first["seed"] = secrets.randbits(62)
    known = {name: value for name, value in known.items() if value is not None}
    return _checked(SamplingSettings, **{**first, **given, **known})


def change_settings(fields: Fields, settings: SamplingSettings) -> SamplingSettings:
    """Takes what a row of a batch changes in the settings of its job.

    Raises:
        ApiError: a field has another type, or the settings do not go together.
    """
    given = _take(fields)
    for name, field in (
        ("max_tokens", "max_tokens"),
        ("max_tokens", "max_completion_tokens"),
        ("logprobs", "logprobs"),
        ("prompt_logprobs", "prompt_logprobs"),
    ):
        number = fields.take(field, as_integer, "a number of tokens")
        if number is not None:
            given[name] = number
    return _checked(replace, settings, **given) if given else settings


def _take(fields: Fields) -> dict[str, Any]:
    """The settings that are given."""
    found: dict[str, Any] = {
        **{name: fields.take(name, as_integer, "an integer") for name in _INTEGERS},
        **{name: fields.take(name, as_number, "a number") for name in _NUMBERS},
        "early_stopping": fields.take("early_stopping", _as_early, "true, false or 'never'"),
        "ignore_eos": fields.take("ignore_eos", as_flag, "true or false"),
        "stop": fields.take("stop", _as_texts, "a text or a list of texts"),
        "stop_ids": fields.take("stop_token_ids", as_ids, "a list of ids"),
        "bad_words": fields.take("bad_words", _as_texts, "a text or a list of texts"),
        "allowed_ids": fields.take("allowed_token_ids", as_ids, "a list of ids"),
        "logit_bias": fields.take("logit_bias", _as_bias, "an object of numbers by id"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _checked(make: Any, *arguments: Any, **values: Any) -> SamplingSettings:
    try:
        settings: SamplingSettings = make(*arguments, **values)
    except ValueError as error:
        raise ApiError(422, str(error), param=str(error).split()[0]) from error
    return settings


def _as_early(value: Any) -> bool | Literal["never"]:
    if value == "never":
        return "never"
    return as_flag(value)


def _as_texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, str | list):
        raise TypeError
    return tuple(map(as_text, [value] if isinstance(value, str) else value))


def _as_bias(value: Any) -> tuple[tuple[int, float], ...]:
    return tuple((int(name), as_number(bias)) for name, bias in as_object(value).items())

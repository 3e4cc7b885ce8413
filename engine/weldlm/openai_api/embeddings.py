"""Calls of /v1/embeddings and their answers."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from weldlm.encoding import encode_text
from weldlm.openai_api.calls import ApiModel
from weldlm.openai_api.errors import ApiError
from weldlm.openai_api.fields import Fields, as_ids, as_integer, as_text

__all__ = ["EmbeddingCall", "answer_embeddings", "read_embedding_call"]

_FORMATS = ("float", "base64")


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """What a body asks for."""

    model: ApiModel
    rows: tuple[tuple[int, ...], ...]  # ids
    is_base64: bool


def read_embedding_call(body: Any, model: ApiModel) -> EmbeddingCall:
    """Reads the body of a call.

    Raises:
        ApiError: the body is not one of such a call, or the model cannot answer it.
    """
    fields, width = Fields(body), model.config.hidden_size
    model.require_name(fields.take("model", as_text, "the name of a model"))
    given = fields.take("input", _as_inputs, "a text, ids, or a list of either")
    form = fields.take("encoding_format", as_text, "float or base64") or "float"
    dimensions = fields.take("dimensions", as_integer, f"{width}")
    fields.finish()
    if form not in _FORMATS:
        message = f"encoding_format is {form[:40]!a}; expected float or base64"
        raise ApiError(422, message, param="encoding_format")
    if dimensions not in (None, width):
        message = f"dimensions is {dimensions}; expected {width}, as many as the model has"
        raise ApiError(422, message, param="dimensions")
    if not given:
        raise ApiError(422, "there is no input; expected at least one text", param="input")
    rows = tuple(_encoded(model, item) for item in given)
    return EmbeddingCall(model, rows, form == "base64")


def answer_embeddings(call: EmbeddingCall, vectors: Tensor) -> dict[str, Any]:
    """The answer from the embedding of each row, [R, hidden_size] fp32."""
    data = [
        {"object": "embedding", "index": index, "embedding": _shown(vector, call.is_base64)}
        for index, vector in enumerate(vectors)
    ]
    num_tokens = sum(map(len, call.rows))
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": call.model.name, "usage": usage}


def _as_inputs(value: Any) -> list[str | tuple[int, ...]]:
    if isinstance(value, str):
        return [as_text(value)]
    if isinstance(value, list) and value and isinstance(value[0], int):
        return [as_ids(value)]
    if not isinstance(value, list):
        raise TypeError
    return [as_text(item) if isinstance(item, str) else as_ids(item) for item in value]


def _encoded(model: ApiModel, item: str | Sequence[int]) -> tuple[int, ...]:
    config = model.config
    try:
        if isinstance(item, str):
            return tuple(encode_text(config, model.tokenizer, item))
    except ValueError as error:
        raise ApiError(400, str(error), param="input") from error
    if not item or len(item) > config.context_length:
        message = f"the input has {len(item)} ids; expected 1 to {config.context_length}"
        raise ApiError(400, message, param="input")
    if not all(0 <= token_id < config.vocab_size for token_id in item):
        message = f"the input has an id outside 0 to {config.vocab_size - 1}; mend it"
        raise ApiError(400, message, param="input")
    return tuple(item)


def _shown(vector: Tensor, is_base64: bool) -> str | list[float]:
    if is_base64:
        return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()
    return vector.tolist()

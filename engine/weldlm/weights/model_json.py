"""config.json of a model folder, both ways."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import torch

from weldlm.config import ModelConfig
from weldlm.families import FAMILIES, Family, HeadFormat
from weldlm.heads import Model
from weldlm.text_file import decode_text, parse_json
from weldlm.weights.config_fields import check_fields

__all__ = [
    "QUANTIZATION",
    "head_format",
    "is_quantized",
    "read_config",
    "read_json",
    "their_config",
]

# what config.json says of a folder of weldlm's own quantized weights
QUANTIZATION = {"quant_method": "weldlm"}

_logger = logging.getLogger(__name__)

# what transformers writes nothing for
_NO_LABELS = ("LABEL_0", "LABEL_1")


def read_json(path: Path) -> dict[str, Any]:
    """Reads the fields of config.json.

    Raises:
        ValueError: it is no JSON object.
    """
    text = decode_text(path.read_bytes(), str(path))
    theirs = parse_json(text, str(path), expected="the fields of a model")
    if not isinstance(theirs, dict):
        raise ValueError(f"{path} holds no JSON object; expected the fields of a model")
    return theirs


def read_config(theirs: dict[str, Any], path: Path) -> ModelConfig:
    """Reads the fields of config.json; errors begin with `path`.

    Raises:
        ValueError: an unsupported model type, a missing field, or a field with an unsupported
            value that would change the maths.
    """
    family = _family(theirs, path)
    for name, expected in {**family.required, "quantization_config": None}.items():
        if name == "quantization_config" and is_quantized(theirs):
            continue
        if theirs.get(name) not in (None, expected):
            raise ValueError(
                f"{path}: {name} = {theirs[name]!r} is not supported; expected {expected!r}"
            )
    try:
        check_fields(theirs)
        return _read(theirs, family)
    except KeyError as error:
        raise ValueError(
            f"{path} lacks the field {error.args[0]!r}; expected all that decide the maths; add it"
        ) from error
    except (TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"{path} has a field of a wrong type or size ({error}); expected those of the "
            f"{theirs['model_type']} format; compare it with the original"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def is_quantized(theirs: dict[str, Any]) -> bool:
    """Whether the folder holds quantized weights as weldlm writes them."""
    return theirs.get("quantization_config") == QUANTIZATION


def head_format(config: ModelConfig, head: type[Model]) -> HeadFormat:
    """How the model's family writes that head.

    Raises:
        ValueError: it has none.
    """
    heads = FAMILIES[config.family].heads
    if head.kind not in heads:
        known = ", ".join(heads)
        raise ValueError(f"{config.family} has no {head.kind} head; expected one of {known}")
    return heads[head.kind]


def their_config(model: Model, dtype: torch.dtype) -> dict[str, Any]:
    """What config.json says of a model with weights in `dtype`.

    Raises:
        ValueError: the family's format cannot say it.
    """
    config = model.config
    eos_ids = [config.eos_id, *config.more_eos_ids]
    theirs: dict[str, Any] = {
        "architectures": [head_format(config, type(model)).architecture],
        "model_type": config.family,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_id,
        "eos_token_id": eos_ids if config.more_eos_ids else config.eos_id,
        "pad_token_id": config.pad_id,
        "dtype": str(dtype).removeprefix("torch."),
    }
    if config.decoder_start_id is not None:
        theirs["decoder_start_token_id"] = config.decoder_start_id
    if config.labels != _NO_LABELS:
        theirs["id2label"] = dict(enumerate(config.labels))
        theirs["label2id"] = {name: place for place, name in enumerate(config.labels)}
    if model.kind == "regression":
        theirs["problem_type"] = "regression"
    family = FAMILIES[config.family]
    theirs |= family.write(config)
    # as it will be read: with texts for the keys of id2label
    _check_said(config, _read(json.loads(json.dumps(theirs)), family))
    return theirs


def _check_said(config: ModelConfig, read: ModelConfig) -> None:
    for field in dataclasses.fields(ModelConfig):
        ours, said = getattr(config, field.name), getattr(read, field.name)
        if ours != said:
            raise ValueError(
                f"{field.name} is {ours!r}, which the {config.family} format cannot hold; "
                f"expected {said!r}"
            )


def _read(theirs: dict[str, Any], family: Family) -> ModelConfig:
    config = family.read(theirs)
    return dataclasses.replace(config, **_common_fields(theirs, config.vocab_size))


def _family(theirs: dict[str, Any], path: Path) -> Family:
    model_type = theirs.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"{path}: model_type {model_type!r} is not supported; expected {known}")
    return FAMILIES[model_type]


def _common_fields(theirs: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """Fields that all families write alike."""
    bos_ids = _known_ids(theirs, "bos_token_id", vocab_size)
    eos_ids = _known_ids(theirs, "eos_token_id", vocab_size)
    fields: dict[str, Any] = {
        "bos_id": bos_ids[0] if bos_ids else None,
        "eos_id": eos_ids[0] if eos_ids else None,
        "more_eos_ids": tuple(eos_ids[1:]),
        "pad_id": theirs.get("pad_token_id"),
    }
    if theirs.get("is_encoder_decoder"):
        start = theirs.get("decoder_start_token_id")
        fields["decoder_start_id"] = fields["pad_id"] if start is None else start
    if theirs.get("id2label"):
        names = sorted(theirs["id2label"].items(), key=lambda item: int(item[0]))
        fields["labels"] = tuple(name for _, name in names)
    return fields


def _known_ids(theirs: dict[str, Any], name: str, vocab_size: int) -> list[int]:
    """The ids in a field, less those that the model cannot read or write, which decide nothing."""
    value = theirs.get(name)
    ids = [each for each in (value if isinstance(value, list) else [value]) if each is not None]
    unknown = [each for each in ids if each >= vocab_size]
    if unknown:
        _logger.warning(
            "%s %d is ignored: the model has a vocab_size of %d", name, unknown[0], vocab_size
        )
    return [each for each in ids if each < vocab_size]

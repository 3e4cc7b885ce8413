"""What a folder says about its tokenizer beside the ids: roles of special tokens, chat template.

tokenizer_config.json and special_tokens_map.json are written by transformers; what is read here
never changes how text is encoded.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weldlm.tokenizer.truncation import Side

__all__ = ["ROLES", "TokenizerConfig", "read_config", "read_json_object", "write_config"]

ROLES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_LONGEST = 1 << 40  # transformers writes 1e30 where there is no limit


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """Defaults of a model's tokenizer."""

    roles: Mapping[str, str] = field(default_factory=dict)  # text of each of ROLES that is there
    chat_templates: Mapping[str, str] = field(default_factory=dict)  # Jinja, by name
    max_length: int | None = None  # of the model
    padding_side: Side = "right"
    truncation_side: Side = "right"
    columns: tuple[str, ...] | None = None  # of a batch, as transformers names them


def read_config(folder: Path) -> TokenizerConfig:
    """Reads what is there; a folder without any of the files has the defaults.

    Raises:
        ValueError: a file is damaged.
    """
    fields = read_json_object(folder / "special_tokens_map.json")
    fields |= read_json_object(folder / "tokenizer_config.json")
    max_length = fields.get("model_max_length")
    columns = fields.get("model_input_names")
    return TokenizerConfig(
        roles={role: text for role in ROLES if (text := _content(fields.get(role))) is not None},
        chat_templates=_chat_templates(folder, fields.get("chat_template")),
        max_length=max_length if type(max_length) is int and max_length < _LONGEST else None,
        padding_side=_side(folder, "padding_side", fields),
        truncation_side=_side(folder, "truncation_side", fields),
        columns=tuple(columns) if isinstance(columns, list) else None,
    )


def write_config(config: TokenizerConfig) -> dict[str, Any]:
    """The fields of tokenizer_config.json, with which transformers loads tokenizer.json."""
    fields: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **config.roles}
    if config.max_length is not None:
        fields["model_max_length"] = config.max_length
    if config.columns is not None:
        fields["model_input_names"] = list(config.columns)
    if config.chat_templates.keys() == {"default"}:
        fields["chat_template"] = config.chat_templates["default"]
    elif config.chat_templates:
        fields["chat_template"] = [
            {"name": name, "template": template} for name, template in config.chat_templates.items()
        ]
    return fields | {
        "padding_side": config.padding_side,
        "truncation_side": config.truncation_side,
        "clean_up_tokenization_spaces": False,
    }


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads an object, empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds {type(fields).__name__}; expected an object")
    return fields


def _content(value: Any) -> str | None:
    """The text of a token, which is written bare or with its flags."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _chat_templates(folder: Path, value: Any) -> dict[str, str]:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return {"default": path.read_text(encoding="utf-8")}
    if isinstance(value, str):
        return {"default": value}
    rows = value if isinstance(value, list) else []
    templates: dict[str, str] = {}
    for row in rows:
        name, template = (
            (row.get("name"), row.get("template")) if isinstance(row, dict) else (None, None)
        )
        if not isinstance(name, str) or not isinstance(template, str):
            raise ValueError(
                f"{folder}: chat_template holds {str(row)[:80]!r}; expected objects with a name "
                "and a template, both strings"
            )
        templates[name] = template
    return templates


def _side(folder: Path, name: str, fields: Mapping[str, Any]) -> Side:
    side = fields.get(name, "right")
    if side not in ("left", "right"):
        raise ValueError(f"{folder}: {name} is {side!r}; expected 'left' or 'right'")
    return "left" if side == "left" else "right"

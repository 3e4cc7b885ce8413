"""The tokenizer inside a GGUF file.

The meaning of the fields is that of llama.cpp: `tokenizer.ggml.model` names the algorithm and
`tokenizer.ggml.pre` the regular expression of byte-level BPE.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from weldlm.gguf_file import GgufFile
from weldlm.tokenizer.bpe import Pattern
from weldlm.tokenizer.json_bpe import read_bpe
from weldlm.tokenizer.json_vocabulary import spell_tokens
from weldlm.tokenizer.parts import AddedToken, Template, TemplatePiece, TokenizerParts
from weldlm.tokenizer.spiece_model import PieceKind, SpieceModel, check_kinds, spiece_parts
from weldlm.tokenizer.tokenizer_config import TokenizerConfig

__all__ = ["read_gguf_tokenizer"]

# pattern family and ignore_merges of each `tokenizer.ggml.pre`
_PATTERNS: Mapping[str, tuple[str, bool]] = {
    "gpt-2": ("gpt2", False),
    "smollm": ("smollm", False),
    "llama-bpe": ("llama3", True),
    "llama3": ("llama3", True),
    "qwen2": ("qwen2", False),
    "gpt-4o": ("o200k", False),
}
_ROLES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",  # spelled so in the format
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}
_MODEL_TYPES = {"llama": 2, "t5": 1}  # of SentencePiece: BPE, Unigram


Kind = TypeVar("Kind")


class _Fields:
    """The metadata `tokenizer.*` of a file, each of the type that the format says."""

    def __init__(self, path: Path) -> None:
        self._file = GgufFile(path)

    def text(self, name: str) -> str | None:
        return self._checked(name, str, "a string")

    def texts(self, name: str) -> list[str]:
        texts = self._checked(name, list, "a list of strings")
        if texts is None:
            raise ValueError(f"the file has no tokenizer.{name}; expected a whole tokenizer")
        if texts and not isinstance(texts[0], str):
            raise ValueError(f"tokenizer.{name} is a list of numbers, expected a list of strings")
        return texts

    def token_id(self, name: str, num_tokens: int) -> int | None:
        """The id, None also where it is beyond the vocabulary: converters write some such."""
        token_id = self._checked(name, int, "an integer")
        return token_id if token_id is not None and 0 <= token_id < num_tokens else None

    def flag(self, name: str, default: bool) -> bool:
        value = self._checked(name, bool, "a bool")
        return default if value is None else value

    def numbers(self, name: str) -> np.ndarray | None:
        numbers = self._checked(name, list, "a list of numbers")
        if numbers is None:
            return None
        if numbers and isinstance(numbers[0], str):
            raise ValueError(f"tokenizer.{name} is a list of strings, expected a list of numbers")
        array = np.array(numbers)
        if not np.isfinite(array).all():
            at = int(np.flatnonzero(~np.isfinite(array))[0])
            raise ValueError(f"tokenizer.{name}[{at}] is {numbers[at]}, expected a finite number")
        return array

    def _checked(self, name: str, kind: type[Kind], expected: str) -> Kind | None:
        value = self._file.get(f"tokenizer.{name}")
        if value is None or type(value) is kind:
            return value
        raise ValueError(
            f"tokenizer.{name} is of the type {type(value).__name__}, expected {expected}"
        )


def read_gguf_tokenizer(path: Path) -> tuple[TokenizerParts, TokenizerConfig]:
    """Reads vocabulary, roles of special tokens and chat template.

    Raises:
        ValueError: the file is damaged, or its tokenizer is of a kind that is not supported.
    """
    fields = _Fields(path)
    kind = fields.text("ggml.model")
    if kind != "gpt2" and kind not in _MODEL_TYPES:
        raise ValueError(
            f"tokenizer.ggml.model is {kind!r}, which is not supported; expected gpt2, llama or t5"
        )
    names = fields.texts("ggml.tokens")
    _require_each_once(names)
    kinds = _kinds(fields, len(names))
    ids = {role: fields.token_id(f"ggml.{field}", len(names)) for role, field in _ROLES.items()}
    template = _template(fields, ids)
    if kind == "gpt2":
        parts = _byte_level(fields, names, kinds, template)
    else:
        parts = _sentencepiece(fields, names, kinds, _MODEL_TYPES[kind], template)
    chat = fields.text("chat_template")
    return parts, TokenizerConfig(
        roles={role: names[i] for role, i in ids.items() if i is not None},
        chat_templates={"default": chat} if chat else {},
    )


def _require_each_once(names: Sequence[str]) -> None:
    ids: dict[str, int] = {}
    for token_id, name in enumerate(names):
        if name in ids:
            raise ValueError(
                f"tokenizer.ggml.tokens[{token_id}] is {name!r}, which token {ids[name]} is already"
            )
        ids[name] = token_id


def _kinds(fields: _Fields, num_tokens: int) -> np.ndarray:
    kinds = fields.numbers("ggml.token_type")
    if kinds is None:
        return np.full(num_tokens, PieceKind.NORMAL, dtype=np.uint8)
    if len(kinds) != num_tokens:
        raise ValueError(f"the file has {num_tokens} tokens and {len(kinds)} types of tokens")
    unknown = np.flatnonzero(~np.isin(kinds, list(PieceKind)))
    if len(unknown):
        at = int(unknown[0])
        raise ValueError(f"tokenizer.ggml.token_type[{at}] is {kinds[at]}, expected 1 to 6")
    return kinds.astype(np.uint8)


def _template(fields: _Fields, ids: Mapping[str, int | None]) -> Template:
    before = _around(fields.flag("ggml.add_bos_token", False), ids["bos_token"])
    after = _around(fields.flag("ggml.add_eos_token", False), ids["eos_token"])
    if not before + after:
        return Template()
    first = (*before, TemplatePiece("A"), *after)
    second = (*before, TemplatePiece("B", 1), *after)
    return Template(single=first, pair=first + second)


def _around(is_added: bool, token_id: int | None) -> tuple[TemplatePiece, ...]:
    return (TemplatePiece((token_id,)),) if is_added and token_id is not None else ()


def _added_tokens(names: Sequence[str], kinds: np.ndarray) -> tuple[AddedToken, ...]:
    added = np.isin(kinds, (PieceKind.CONTROL, PieceKind.USER_DEFINED))
    return tuple(
        AddedToken(names[i], i, is_special=bool(kinds[i] == PieceKind.CONTROL))
        for i in np.flatnonzero(added).tolist()
        if names[i]
    )


def _byte_level(
    fields: _Fields, names: list[str], kinds: np.ndarray, template: Template
) -> TokenizerParts:
    pre = fields.text("ggml.pre") or "default"
    if pre not in _PATTERNS:
        raise ValueError(
            f"tokenizer.ggml.pre is {pre!r}, which is not supported; expected "
            + ", ".join(_PATTERNS)
        )
    family, ignore_merges = _PATTERNS[pre]
    added_tokens = _added_tokens(names, kinds)
    section = {
        "vocab": {name: token_id for token_id, name in enumerate(names)},
        "merges": fields.texts("ggml.merges"),
        "ignore_merges": ignore_merges,
    }
    named = read_bpe(section)
    return TokenizerParts(
        tokens=spell_tokens(named, added_tokens),
        model=named.model,
        added_tokens=added_tokens,
        pretokenizer=Pattern(family),
        template=template,
    )


def _sentencepiece(
    fields: _Fields, names: list[str], kinds: np.ndarray, model_type: int, template: Template
) -> TokenizerParts:
    is_byte = kinds == PieceKind.BYTE
    scores = fields.numbers("ggml.scores")
    if scores is None or len(scores) != len(names):
        given = "no" if scores is None else len(scores)
        raise ValueError(f"the file has {len(names)} tokens and {given} tokenizer.ggml.scores")
    charsmap = fields.numbers("ggml.precompiled_charsmap")
    model = SpieceModel(
        pieces=names,
        scores=scores.astype(np.float32),
        kinds=kinds,
        model_type=model_type,
        byte_fallback=bool(is_byte.any()),
        charsmap=b"" if charsmap is None else charsmap.astype(np.uint8).tobytes(),
        add_dummy_prefix=fields.flag("ggml.add_space_prefix", True),
        remove_extra_whitespaces=fields.flag("ggml.remove_extra_whitespaces", False),
    )
    check_kinds(model)
    return spiece_parts(model, template=template)

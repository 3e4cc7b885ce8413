"""The tokenizer inside a GGUF file.

The meaning of the fields is that of llama.cpp: `tokenizer.ggml.model` names the algorithm and
`tokenizer.ggml.pre` the regular expression of byte-level BPE.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np

from weldlm.gguf_file import GgufFile
from weldlm.tokenizer.bpe import Pattern
from weldlm.tokenizer.json_bpe import read_bpe
from weldlm.tokenizer.json_vocabulary import spell_tokens
from weldlm.tokenizer.parts import AddedToken, Template, TemplatePiece, TokenizerParts
from weldlm.tokenizer.spiece_model import PieceKind, SpieceModel, spiece_parts
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


def read_gguf_tokenizer(path: Path) -> tuple[TokenizerParts, TokenizerConfig]:
    """Reads vocabulary, roles of special tokens and chat template.

    Raises:
        ValueError: the file is damaged, or its tokenizer is of a kind that is not supported.
    """
    file = GgufFile(path)
    kind = file.require("tokenizer.ggml.model")
    names: list[str] = list(file.require("tokenizer.ggml.tokens"))
    kinds = np.array(file.get("tokenizer.ggml.token_type", [1] * len(names)), dtype=np.uint8)
    if len(kinds) != len(names):
        raise ValueError(f"{path} has {len(names)} tokens and {len(kinds)} types of tokens")
    ids = {role: file.get(f"tokenizer.ggml.{field}") for role, field in _ROLES.items()}
    roles = {role: names[i] for role, i in ids.items() if _is_id(i, names)}
    template = _template(file, ids)
    if kind == "gpt2":
        parts = _byte_level(file, names, kinds, template)
    elif kind in _MODEL_TYPES:
        parts = _sentencepiece(file, names, kinds, _MODEL_TYPES[kind], template)
    else:
        raise ValueError(
            f"{path} has tokenizer.ggml.model {kind!r}, which is not supported; expected gpt2, "
            "llama or t5"
        )
    chat = file.get("tokenizer.chat_template")
    return parts, TokenizerConfig(roles=roles, chat_templates={"default": chat} if chat else {})


def _template(file: GgufFile, ids: Mapping[str, int | None]) -> Template:
    before = _around(file.get("tokenizer.ggml.add_bos_token", False), ids["bos_token"])
    after = _around(file.get("tokenizer.ggml.add_eos_token", False), ids["eos_token"])
    if not before + after:
        return Template()
    first = (*before, TemplatePiece("A"), *after)
    second = (*before, TemplatePiece("B", 1), *after)
    return Template(single=first, pair=first + second)


def _around(is_added: bool, token_id: int | None) -> tuple[TemplatePiece, ...]:
    return (TemplatePiece((token_id,)),) if is_added and token_id is not None else ()


def _is_id(value: object, names: Sequence[str]) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < len(names)


def _added_tokens(names: Sequence[str], kinds: np.ndarray) -> tuple[AddedToken, ...]:
    added = np.isin(kinds, (PieceKind.CONTROL, PieceKind.USER_DEFINED))
    return tuple(
        AddedToken(names[i], i, is_special=bool(kinds[i] == PieceKind.CONTROL))
        for i in np.flatnonzero(added).tolist()
        if names[i]
    )


def _byte_level(
    file: GgufFile, names: list[str], kinds: np.ndarray, template: Template
) -> TokenizerParts:
    pre = file.get("tokenizer.ggml.pre", "default")
    if pre not in _PATTERNS:
        known = ", ".join(_PATTERNS)
        raise ValueError(
            f"{file.path} has tokenizer.ggml.pre {pre!r}, which is not supported; expected {known}"
        )
    family, ignore_merges = _PATTERNS[pre]
    added_tokens = _added_tokens(names, kinds)
    section = {
        "vocab": {name: token_id for token_id, name in enumerate(names)},
        "merges": file.require("tokenizer.ggml.merges"),
        "ignore_merges": ignore_merges,
    }
    try:
        named = read_bpe(section)
        tokens = spell_tokens(named, added_tokens)
    except ValueError as error:
        raise ValueError(f"{file.path}: {error}") from error
    return TokenizerParts(
        tokens=tokens,
        model=named.model,
        added_tokens=added_tokens,
        pretokenizer=Pattern(family),
        template=template,
    )


def _sentencepiece(
    file: GgufFile, names: list[str], kinds: np.ndarray, model_type: int, template: Template
) -> TokenizerParts:
    is_byte = kinds == PieceKind.BYTE
    model = SpieceModel(
        pieces=names,
        scores=np.array(file.require("tokenizer.ggml.scores"), dtype=np.float32),
        kinds=kinds,
        model_type=model_type,
        byte_fallback=bool(is_byte.any()),
        charsmap=bytes(file.get("tokenizer.ggml.precompiled_charsmap", b"")),
        add_dummy_prefix=bool(file.get("tokenizer.ggml.add_space_prefix", True)),
        remove_extra_whitespaces=bool(file.get("tokenizer.ggml.remove_extra_whitespaces", False)),
    )
    return spiece_parts(model, template=template)

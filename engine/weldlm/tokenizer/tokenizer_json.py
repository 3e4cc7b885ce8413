"""Reads and writes tokenizer.json, as far as it describes byte-level BPE with the GPT-2 pattern.

What would change the ids in a way that this package does not do is refused by name: every field
has the values that are understood, and any other is an error. Nothing is approximated.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weldlm.atomic_file import replace_text
from weldlm.tokenizer.byte_characters import bytes_from_characters, characters_from_bytes
from weldlm.tokenizer.parts import AddedToken, BpeParts

__all__ = ["read_tokenizer_json", "write_tokenizer_json"]

_ANY = object()

# the values that are understood for each field; a field whose values hold None may be missing
_FIELDS: Mapping[str, Mapping[str, tuple[object, ...]]] = {
    "tokenizer.json": {
        "version": ("1.0", None),
        "truncation": (None,),
        "padding": (None,),
        "added_tokens": (_ANY, None),
        "normalizer": (None,),
        "pre_tokenizer": (_ANY,),
        "post_processor": (_ANY, None),
        "decoder": (_ANY,),
        "model": (_ANY,),
    },
    "pre_tokenizer": {
        "type": ("ByteLevel",),
        "add_prefix_space": (False,),
        "trim_offsets": (True, False),
        "use_regex": (True, None),
    },
    "post_processor": {
        "type": ("ByteLevel", "TemplateProcessing"),
        "add_prefix_space": (_ANY, None),  # this and the next two of ByteLevel
        "trim_offsets": (_ANY, None),
        "use_regex": (_ANY, None),
        "single": ([{"Sequence": {"id": "A", "type_id": 0}}], None),  # of TemplateProcessing
        "pair": (_ANY, None),
        "special_tokens": (_ANY, None),
    },
    "decoder": {
        "type": ("ByteLevel",),
        "add_prefix_space": (True, False),
        "trim_offsets": (True, False),
        "use_regex": (True, False, None),
    },
    "model": {
        "type": ("BPE", None),
        "dropout": (None, 0),
        "unk_token": (_ANY, None),  # never used: every byte has a token
        "continuing_subword_prefix": (None, ""),
        "end_of_word_suffix": (None, ""),
        "fuse_unk": (True, False, None),
        "byte_fallback": (False, None),
        "ignore_merges": (False, None),
        "vocab": (_ANY,),
        "merges": (_ANY,),
    },
    "added_tokens": {
        "id": (_ANY,),
        "content": (_ANY,),
        "single_word": (False,),
        "lstrip": (False,),
        "rstrip": (False,),
        "normalized": (True, False),
        "special": (True, False),
    },
}


def read_tokenizer_json(path: Path) -> BpeParts:
    """Reads the file.

    Raises:
        ValueError: the file is damaged or holds what this package does not do.
    """
    return _parts(_parse(path.read_bytes()))


def write_tokenizer_json(path: Path, parts: BpeParts) -> None:
    """Writes the file whole or not at all."""
    replace_text(path, json.dumps(_document(parts), ensure_ascii=False, separators=(",", ":")))


def _parse(data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"invalid JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise ValueError("JSON nested too deeply to be a tokenizer.json") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} is given twice in one object")
    return fields


def _parts(document: object) -> BpeParts:
    fields = _checked("tokenizer.json", document)
    _checked("pre_tokenizer", fields["pre_tokenizer"])
    _checked("decoder", fields["decoder"])
    if fields["post_processor"] is not None:
        _checked("post_processor", fields["post_processor"])
    model = _checked("model", fields["model"])
    ids = _vocab(model["vocab"])
    merges = _merges(model["merges"], ids)
    rows = fields["added_tokens"]
    added_tokens = () if rows is None else _added_tokens(rows, ids)
    names = list(ids) + [token.content for token in added_tokens if token.content not in ids]
    contents = {token.content for token in added_tokens}
    return BpeParts([_token_bytes(name, contents) for name in names], merges, added_tokens)


def _checked(name: str, value: object) -> dict[str, Any]:
    """The fields of a section, each known and of an understood value; missing ones are None."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {_brief(value)}, expected an object")
    understood = _FIELDS[name]
    for field in sorted(understood.keys() - value.keys()):
        if None not in understood[field]:
            raise ValueError(f"{name} has no {field!r}")
    for field, given in value.items():
        if field not in understood:
            raise ValueError(f"{name} has the unknown field {field!r} = {_brief(given)}")
        if not any(_is(given, known) for known in understood[field]):
            raise ValueError(
                f"{name} has {field!r} = {_brief(given)}, which is not supported; expected "
                + " or ".join(json.dumps(known) for known in understood[field])
                + " (byte-level BPE with the GPT-2 pattern)"
            )
    return dict.fromkeys(understood) | value


def _is(given: object, known: object) -> bool:
    # bool is an int: 0 is no false, and 0.0 is a dropout of 0
    return known is _ANY or (given == known and isinstance(given, bool) == isinstance(known, bool))


def _brief(value: object) -> str:
    if isinstance(value, dict) and "type" in value:
        return f"an object of type {value['type']!r}"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:60] + "..."


def _vocab(vocab: object) -> dict[str, int]:
    """Ids of the tokens, in the order of the ids, which have no gap."""
    if not isinstance(vocab, dict):
        raise ValueError(f"vocab is {_brief(vocab)}, expected an object of ids")
    names: list[str | None] = [None] * len(vocab)
    for name, token_id in vocab.items():
        if type(token_id) is not int or not 0 <= token_id < len(vocab):
            raise ValueError(
                f"vocab gives the token {name!r} the id {_brief(token_id)}, expected 0 to "
                f"{len(vocab) - 1}, each once: the ids of {len(vocab)} tokens without a gap"
            )
        if names[token_id] is not None:
            raise ValueError(f"vocab gives the id {token_id} to {names[token_id]!r} and {name!r}")
        names[token_id] = name
    return {name: token_id for token_id, name in enumerate(names) if name is not None}


def _merges(merges: object, ids: Mapping[str, int]) -> NDArray[np.uint32]:
    if not isinstance(merges, list):
        raise ValueError(f"merges is {_brief(merges)}, expected a list")
    cells: list[int] = []
    for position, merge in enumerate(merges):
        if isinstance(merge, str) and merge.startswith("#version"):
            continue
        pair = merge.split(" ") if isinstance(merge, str) else merge
        match pair:
            case [str(left), str(right)] if left in ids and right in ids and left + right in ids:
                cells += ids[left], ids[right], ids[left + right]
            case [str(left), str(right)]:
                missing = next(name for name in (left, right, left + right) if name not in ids)
                raise ValueError(
                    f"merge {position} is {_brief(merge)}: vocab has no token {missing!r}"
                )
            case _:
                raise ValueError(
                    f"merge {position} is {_brief(merge)}: expected 'left right' or "
                    "['left', 'right']"
                )
    return np.array(cells, dtype=np.uint32).reshape(-1, 3)


def _added_tokens(rows: object, ids: Mapping[str, int]) -> tuple[AddedToken, ...]:
    """The tokens, with the ids that the tokenizers library gives them: it ignores those written."""
    if not isinstance(rows, list):
        raise ValueError(f"added_tokens is {_brief(rows)}, expected a list")
    tokens: list[AddedToken] = []
    next_id = len(ids)
    for row in rows:
        fields = _checked("added_tokens", row)
        content, token_id = fields["content"], fields["id"]
        if type(content) is not str or type(token_id) is not int:
            raise ValueError(
                f"added token {_brief(content)} has the id {_brief(token_id)}, expected a "
                "string with an integer"
            )
        expected = ids.get(content, next_id)
        if token_id != expected:
            raise ValueError(
                f"added token {content!r} has the id {token_id}, expected {expected}: "
                + ("its id in vocab" if content in ids else "the next one after vocab")
            )
        next_id += content not in ids
        tokens.append(AddedToken(content, token_id, fields["special"], fields["normalized"]))
    return tuple(tokens)


def _token_bytes(name: str, contents: set[str]) -> bytes:
    token = bytes_from_characters(name)
    if name not in contents:
        if token is None:
            raise ValueError(f"token {name!r} is not spelled in the characters of byte-level BPE")
        return token
    if token is not None and not name.isascii():
        raise ValueError(
            f"added token {name!r} is also a spelling of the bytes {token!r}, which the "
            "tokenizers library would decode it to; expected one that is not"
        )
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"added token {name!r} holds a lone surrogate") from error


def _document(parts: BpeParts) -> dict[str, object]:
    contents = {token.id: token.content for token in parts.added_tokens}
    names = [
        contents.get(i) or characters_from_bytes(token) for i, token in enumerate(parts.tokens)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token_row(token) for token in parts.added_tokens],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": [[names[left], names[right]] for left, right, _ in parts.merges.tolist()],
        },
    }


def _added_token_row(token: AddedToken) -> dict[str, object]:
    return {
        "id": token.id,
        "content": token.content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": token.is_normalized,
        "special": token.is_special,
    }

"""tokenizer.json: the sections of byte-level BPE, which spells bytes in printable characters."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import add
from typing import Any

import numpy as np

from weldlm.tokenizer.bpe import BpeModel, Merges
from weldlm.tokenizer.byte_characters import (
    bytes_from_characters,
    bytes_of_names,
    characters_from_bytes,
)
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.json_vocabulary import (
    NamedModel,
    added_bytes,
    names_by_id,
    read_vocab,
    write_vocab,
)
from weldlm.tokenizer.parts import AddedToken, PlainDecoder

__all__ = [
    "read_bpe",
    "read_byte_level_decoder",
    "read_merges",
    "write_bpe",
    "write_byte_level_decoder",
]

_MODEL: Understood = {
    "type": ("BPE", None),
    "dropout": (None, 0),
    "unk_token": (ANY, None),  # with one, every byte needs a token
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "fuse_unk": (True, False, None),
    "byte_fallback": (False, None),
    "ignore_merges": (True, False, None),
    "vocab": (ANY,),
    "merges": (ANY,),
}
_DECODER: Understood = {
    "type": ("ByteLevel",),
    "add_prefix_space": (True, False),
    "trim_offsets": (True, False),
    "use_regex": (True, False, None),
}
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def read_byte_level_decoder(section: dict[str, Any]) -> PlainDecoder:
    """Reads the decoder ByteLevel."""
    checked("decoder", section, _DECODER)
    return PlainDecoder()


def write_byte_level_decoder() -> dict[str, Any]:
    """The decoder section of byte-level BPE."""
    return _BYTE_LEVEL | {"use_regex": True}


def read_bpe(section: object) -> NamedModel:
    """Reads the model section.

    Raises:
        ValueError: it is damaged or asks for what this package does not do.
    """
    fields = checked("model", section, _MODEL)
    ids = read_vocab(fields["vocab"])
    names = names_by_id(ids)
    spellings = bytes_of_names(names)
    model = BpeModel(
        read_merges(fields["merges"], ids),
        ignore_merges=bool(fields["ignore_merges"]),
        drops_bytes=fields["unk_token"] is None,
        hidden_ids=tuple(i for i, spelling in enumerate(spellings) if spelling is None),
        num_tokens=len(names),
    )
    return NamedModel(names, model, partial(_spell, dict(zip(names, spellings, strict=True))))


def write_bpe(
    model: BpeModel, tokens: Sequence[bytes], added_tokens: Sequence[AddedToken]
) -> dict[str, Any]:
    """The model section."""
    contents = {token.id: token.content for token in added_tokens}
    names = [contents.get(i) or characters_from_bytes(token) for i, token in enumerate(tokens)]
    if model.num_tokens is not None:
        names = names[: model.num_tokens]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": model.ignore_merges,
        "vocab": write_vocab(names),
        "merges": [[names[left], names[right]] for left, right, _ in model.merges.tolist()],
    }


def read_merges(merges: object, ids: Mapping[str, int]) -> Merges:
    """The ids of left, right and merged token of each merge."""
    if not isinstance(merges, list):
        raise ValueError(f"merges is {brief(merges)}, expected a list")
    cells = _cells(merges)
    if cells is None:
        raise ValueError(_wrong_merge(merges, ids))
    lefts, rights = cells[0::2], cells[1::2]
    try:
        columns = [
            [ids[name] for name in lefts],
            [ids[name] for name in rights],
            [ids[name] for name in map(add, lefts, rights)],
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(_wrong_merge(merges, ids)) from error
    return np.array(columns, dtype=np.uint32).T.copy()


def _cells(merges: list[Any]) -> list[str] | None:
    """Left and right of every merge in turn; None unless all are strings or all are pairs."""
    if all(type(merge) is list and len(merge) == 2 for merge in merges):
        return [cell for pair in merges for cell in pair]
    if not all(type(merge) is str for merge in merges):
        return None
    kept = [merge for merge in merges if not merge.startswith("#version")]
    return " ".join(kept).split(" ") if all(m.count(" ") == 1 for m in kept) else None


def _wrong_merge(merges: list[object], ids: Mapping[str, int]) -> str:
    """What is wrong with the first merge that is, or with all together."""
    for position, merge in enumerate(merges):
        match merge.split(" ") if isinstance(merge, str) else merge:
            case [str(left), str(right)] if not {left, right, left + right} <= ids.keys():
                missing = next(name for name in (left, right, left + right) if name not in ids)
                return f"merge {position} is {brief(merge)}: vocab has no token {missing!r}"
            case [str(), str()]:
                continue
        if not (isinstance(merge, str) and merge.startswith("#version")):
            return f"merge {position} is {brief(merge)}: expected 'left right' or ['left', 'right']"
    return "some merges are strings and some are pairs: expected one or the other"


def _spell(spellings: Mapping[str, bytes | None], name: str, is_added: bool) -> bytes:
    token = spellings[name] if name in spellings else bytes_from_characters(name)
    if not is_added:
        if token is None:
            raise ValueError(f"token {name!r} is not spelled in the characters of byte-level BPE")
        return token
    if token is not None and not name.isascii():
        raise ValueError(
            f"added token {name!r} is also a spelling of the bytes {token!r}, which the "
            "tokenizers library would decode it to; expected one that is not"
        )
    return added_bytes(name)

"""tokenizer.json: the sections of byte-level BPE, which spells bytes in printable characters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weldlm.tokenizer.bpe import BpeModel, Merges
from weldlm.tokenizer.byte_characters import bytes_from_characters, characters_from_bytes
from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.json_vocabulary import NamedModel, added_bytes, names_by_id, read_vocab
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
    model = BpeModel(
        read_merges(fields["merges"], ids),
        ignore_merges=bool(fields["ignore_merges"]),
        drops_bytes=fields["unk_token"] is None,
        hidden_ids=tuple(i for i, name in enumerate(names) if bytes_from_characters(name) is None),
        num_tokens=len(names),
    )
    return NamedModel(names, model, _spell)


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
        "vocab": {name: i for i, name in enumerate(names) if name},
        "merges": [[names[left], names[right]] for left, right, _ in model.merges.tolist()],
    }


def read_merges(merges: object, ids: Mapping[str, int]) -> Merges:
    """The ids of left, right and merged token of each merge."""
    if not isinstance(merges, list):
        raise ValueError(f"merges is {brief(merges)}, expected a list")
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
                    f"merge {position} is {brief(merge)}: vocab has no token {missing!r}"
                )
            case _:
                raise ValueError(
                    f"merge {position} is {brief(merge)}: expected 'left right' or "
                    "['left', 'right']"
                )
    return np.array(cells, dtype=np.uint32).reshape(-1, 3)


def _spell(name: str, is_added: bool) -> bytes:
    token = bytes_from_characters(name)
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

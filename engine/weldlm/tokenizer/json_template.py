"""tokenizer.json: post-processors, which put special tokens around one text or a pair."""

from collections.abc import Mapping
from typing import Any

from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked, steps_of
from weldlm.tokenizer.parts import OffsetTrimming, Template, TemplatePiece, TokenizerParts

__all__ = ["read_template", "read_trimming", "write_post_processor"]

_NAME = "post_processor"
_TEMPLATE: Understood = {
    "type": ("TemplateProcessing",),
    "single": (ANY,),
    "pair": (ANY,),
    "special_tokens": (ANY,),
}
_BYTE_LEVEL: Understood = {  # trims offsets and nothing else
    "type": ("ByteLevel",),
    "add_prefix_space": (True, False),
    "trim_offsets": (True, False),
    "use_regex": (True, False, None),
}
_BERT: Understood = {"type": ("BertProcessing",), "sep": (ANY,), "cls": (ANY,)}
_ROBERTA: Understood = {
    "type": ("RobertaProcessing",),
    "sep": (ANY,),
    "cls": (ANY,),
    "trim_offsets": (True, False),
    "add_prefix_space": (True, False),
}


def read_template(section: object) -> Template:
    """Reads the section post_processor.

    Raises:
        ValueError: it is damaged or of a type that is not supported.
    """
    if section is None:
        return Template()
    templates = [_read_step(step) for step in steps_of(_NAME, section, "processors")]
    adding = [template for template in templates if template != Template()]
    if len(adding) > 1:
        raise ValueError("post_processor adds special tokens more than once; expected one template")
    return adding[0] if adding else Template()


def _read_step(section: object) -> Template:
    kind = section.get("type") if isinstance(section, dict) else None
    match kind:
        case "TemplateProcessing":
            return _read_template(checked("post_processor", section, _TEMPLATE))
        case "ByteLevel":
            checked("post_processor", section, _BYTE_LEVEL)
            return Template()
        case "BertProcessing":
            fields = checked("post_processor", section, _BERT)
            cls, sep = _token_id(fields["cls"]), _token_id(fields["sep"])
            return _around(cls, sep, num_between=1, second_type_id=1)
        case "RobertaProcessing":
            fields = checked("post_processor", section, _ROBERTA)
            cls, sep = _token_id(fields["cls"]), _token_id(fields["sep"])
            return _around(cls, sep, num_between=2, second_type_id=0)
    raise ValueError(
        f"post_processor is {brief(section)}, which is not supported; expected null or an object "
        "of type TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing or Sequence"
    )


def read_trimming(section: object) -> OffsetTrimming | None:
    """How the section post_processor, which `read_template` has read, trims offsets.

    Raises:
        ValueError: it does so more than once.
    """
    trimmings: list[OffsetTrimming] = []
    for step in steps_of(_NAME, section, "processors"):
        match step:
            case {"type": "ByteLevel" | "RobertaProcessing", **fields}:
                if fields.get("trim_offsets") is not False:
                    trimmings.append(OffsetTrimming(fields.get("add_prefix_space") is not False))
    if len(trimmings) > 1:
        raise ValueError("post_processor trims offsets more than once; expected once")
    return trimmings[0] if trimmings else None


def write_post_processor(parts: TokenizerParts) -> dict[str, Any] | None:
    """The section post_processor; null where nothing is added or trimmed."""
    names = {i: token.decode("utf-8", "replace") for i, token in enumerate(parts.tokens)}
    names |= {token.id: token.content for token in parts.added_tokens}
    template = _write_template(parts.template, names)
    if parts.offset_trimming is None:
        return template
    trimming = {
        "type": "ByteLevel",
        "add_prefix_space": parts.offset_trimming.has_prefix_space,
        "trim_offsets": True,
        "use_regex": True,
    }
    if template is None:
        return trimming
    return {"type": "Sequence", "processors": [trimming, template]}


def _write_template(template: Template, names: Mapping[int, str]) -> dict[str, Any] | None:
    if template == Template():
        return None
    ids = {
        token_id
        for piece in template.single + template.pair
        if isinstance(piece.source, tuple)
        for token_id in piece.source
    }
    return {
        "type": "TemplateProcessing",
        "single": [row for piece in template.single for row in _rows(piece, names)],
        "pair": [row for piece in template.pair for row in _rows(piece, names)],
        "special_tokens": {
            names[token_id]: {
                "id": names[token_id],
                "ids": [token_id],
                "tokens": [names[token_id]],
            }
            for token_id in sorted(ids)
        },
    }


def _rows(piece: TemplatePiece, names: Mapping[int, str]) -> list[dict[str, Any]]:
    if isinstance(piece.source, str):
        return [{"Sequence": {"id": piece.source, "type_id": piece.type_id}}]
    return [
        {"SpecialToken": {"id": names[token_id], "type_id": piece.type_id}}
        for token_id in piece.source
    ]


def _around(cls: int, sep: int, *, num_between: int, second_type_id: int) -> Template:
    first = (TemplatePiece((cls,)), TemplatePiece("A"))
    return Template(
        single=(*first, TemplatePiece((sep,))),
        pair=(
            *first,
            TemplatePiece((sep,) * num_between),
            TemplatePiece("B", second_type_id),
            TemplatePiece((sep,), second_type_id),
        ),
    )


def _token_id(value: object) -> int:
    match value:
        case [str(), int(token_id)]:
            return token_id
    raise ValueError(f"post_processor names the token {brief(value)}, expected [token, id]")


def _read_template(fields: dict[str, Any]) -> Template:
    special = fields["special_tokens"]
    if not isinstance(special, dict):
        raise ValueError(
            f"post_processor has 'special_tokens' = {brief(special)}, expected an object"
        )
    ids = {name: _special_ids(name, value) for name, value in special.items()}
    return Template(
        single=_pieces("single", fields["single"], ids),
        pair=_pieces("pair", fields["pair"], ids),
    )


def _special_ids(name: str, value: object) -> tuple[int, ...]:
    match value:
        case {"ids": [*ids]} if ids and all(type(token_id) is int for token_id in ids):
            return tuple(ids)
    raise ValueError(f"post_processor gives {name!r} = {brief(value)}, expected an object with ids")


def _pieces(
    name: str, rows: object, ids: Mapping[str, tuple[int, ...]]
) -> tuple[TemplatePiece, ...]:
    if not isinstance(rows, list):
        raise ValueError(f"post_processor has {name!r} = {brief(rows)}, expected a list")
    return tuple(_piece(name, row, ids) for row in rows)


def _piece(name: str, row: object, ids: Mapping[str, tuple[int, ...]]) -> TemplatePiece:
    match row:
        case {"Sequence": {"id": "A" | "B" as source, "type_id": int(type_id)}}:
            return TemplatePiece(source, type_id)
        case {"SpecialToken": {"id": str(token), "type_id": int(type_id)}} if token in ids:
            return TemplatePiece(ids[token], type_id)
    raise ValueError(
        f"post_processor has {name!r} with {brief(row)}; expected a Sequence A or B, or a "
        "SpecialToken of its special_tokens"
    )

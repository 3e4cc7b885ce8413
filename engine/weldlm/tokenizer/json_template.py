"""tokenizer.json: post-processors, which put special tokens around one text or a pair."""

from collections.abc import Mapping, Sequence
from typing import Any

from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.parts import AddedToken, Template, TemplatePiece

__all__ = ["read_template", "write_template"]

_TEMPLATE: Understood = {
    "type": ("TemplateProcessing",),
    "single": (ANY,),
    "pair": (ANY,),
    "special_tokens": (ANY,),
}
_BYTE_LEVEL: Understood = {  # trims offsets and nothing else
    "type": ("ByteLevel",),
    "add_prefix_space": (ANY, None),
    "trim_offsets": (ANY, None),
    "use_regex": (ANY, None),
}
_BERT: Understood = {"type": ("BertProcessing",), "sep": (ANY,), "cls": (ANY,)}
_ROBERTA: Understood = {
    "type": ("RobertaProcessing",),
    "sep": (ANY,),
    "cls": (ANY,),
    "trim_offsets": (True, False),
    "add_prefix_space": (True, False),
}
_SEQUENCE: Understood = {"type": ("Sequence",), "processors": (ANY,)}


def read_template(section: object) -> Template:
    """Reads the section post_processor.

    Raises:
        ValueError: it is damaged or of a type that is not supported.
    """
    if section is None:
        return Template()
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
        case "Sequence":
            return _read_sequence(checked("post_processor", section, _SEQUENCE)["processors"])
    raise ValueError(
        f"post_processor is {brief(section)}, which is not supported; expected null or an object "
        "of type TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing or Sequence"
    )


def write_template(template: Template, added_tokens: Sequence[AddedToken]) -> dict[str, Any] | None:
    """The section for a template; null for one that adds nothing."""
    if template == Template():
        return None
    names = {token.id: token.content for token in added_tokens}
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


def _read_sequence(processors: object) -> Template:
    if not isinstance(processors, list):
        raise ValueError(f"post_processor has 'processors' = {brief(processors)}, expected a list")
    templates = [read_template(processor) for processor in processors]
    adding = [template for template in templates if template != Template()]
    if len(adding) > 1:
        raise ValueError("post_processor adds special tokens more than once; expected one template")
    return adding[0] if adding else Template()


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

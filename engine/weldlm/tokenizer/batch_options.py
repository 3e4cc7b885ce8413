"""The options of a tokenizer that is called as transformers' are, and what they make of texts."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from weldlm.tokenizer.batch_encoding import BatchEncoding, EncodedText, Row, build_rows, pad_rows
from weldlm.tokenizer.located import LocatedIds
from weldlm.tokenizer.parts import Padding, Template, TokenizerParts
from weldlm.tokenizer.ragged import RaggedIds
from weldlm.tokenizer.special_policy import SpecialTokens
from weldlm.tokenizer.tokenizer_config import TokenizerConfig
from weldlm.tokenizer.truncation import Side, Strategy

__all__ = ["BatchOptions", "encode_rows"]

_ALL_COLUMNS = (
    "input_ids",
    "token_type_ids",
    "attention_mask",
    "special_tokens_mask",
    "offset_mapping",
)

_CHOICES = {
    "padding": (True, False, "longest", "max_length", "do_not_pad"),
    "padding_side": ("left", "right"),
}
_LEAST = {"max_length": 0, "stride": 0, "pad_to_multiple_of": 1}  # of integers


class BatchOptions(TypedDict, total=False):
    """Options with the names and meanings of transformers."""

    add_special_tokens: bool  # put the template around the texts; the default
    padding: bool | Literal["longest", "max_length", "do_not_pad"]  # False; True is "longest"
    truncation: bool | Strategy | Literal["do_not_truncate"]  # False; True is "longest_first"
    max_length: int | None  # the model's where None
    stride: int  # tokens that an overflowing row repeats; 0
    pad_to_multiple_of: int | None
    padding_side: Side | None  # the configuration's where None
    return_tensors: Literal["pt", "np"] | None  # lists where None
    return_token_type_ids: bool | None  # where the model has them
    return_attention_mask: bool | None  # True
    return_overflowing_tokens: bool  # further rows for what was cut; False
    return_special_tokens_mask: bool  # False
    return_offsets_mapping: bool  # places in characters; False
    return_length: bool  # False
    split_special_tokens: bool  # special tokens in texts are plain text; False


class _Tokenizer(Protocol):
    config: TokenizerConfig

    @property
    def parts(self) -> TokenizerParts: ...
    @property
    def pad_id(self) -> int | None: ...
    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        add_special_tokens: bool,
        allowed_special: SpecialTokens,
        disallowed_special: SpecialTokens,
    ) -> RaggedIds: ...
    def locate(
        self,
        text: str,
        *,
        allowed_special: SpecialTokens,
        disallowed_special: SpecialTokens,
    ) -> LocatedIds: ...
    def trim_offsets(self, ids: Sequence[int], offsets: NDArray[np.int64]) -> NDArray[np.int64]: ...


def encode_rows(
    tokenizer: _Tokenizer,
    text: str | Sequence[str],
    text_pair: str | Sequence[str] | None,
    options: BatchOptions,
) -> BatchEncoding:
    """See `Tokenizer.__call__`."""
    _require_valid(options)
    firsts, seconds, is_single = _inputs(text, text_pair)
    rows = _rows(tokenizer, firsts, seconds, options)
    padding = options.get("padding", False)
    if padding not in (False, "do_not_pad"):
        how: Literal["longest", "max_length"] = (
            "max_length" if padding == "max_length" else "longest"
        )
        pad_rows(
            rows, _padding(tokenizer, options), how=how, max_length=_max_length(tokenizer, options)
        )
    overflows = options.get("return_overflowing_tokens", False)
    return _columns(tokenizer, rows, options, is_single=is_single and not overflows)


def _require_valid(options: BatchOptions) -> None:
    for name in options:
        if name not in BatchOptions.__annotations__:
            known = ", ".join(BatchOptions.__annotations__)
            raise TypeError(f"{name!r} is not an option; expected some of {known}")
    for name, expected in _CHOICES.items():
        value = options.get(name)
        if value is not None and value not in expected:
            raise ValueError(f"{name} is {value!r}; expected one of {expected}")
    for name, least in _LEAST.items():
        value = options.get(name)
        if value is None:
            continue
        if not isinstance(value, int):
            raise TypeError(f"{name} is {value!r}; expected an integer")
        if value < least:
            raise ValueError(f"{name} is {value}; expected at least {least}")


def _inputs(
    text: str | Sequence[str], text_pair: str | Sequence[str] | None
) -> tuple[list[str], list[str] | None, bool]:
    if isinstance(text, str):
        if text_pair is not None and not isinstance(text_pair, str):
            raise TypeError("text is one str and text_pair several; expected as many of both")
        return [text], None if text_pair is None else [text_pair], True
    if isinstance(text_pair, str):
        raise TypeError("text_pair is one str and text several; expected as many of both")
    firsts, seconds = list(text), None if text_pair is None else list(text_pair)
    if seconds is not None and len(firsts) != len(seconds):
        raise ValueError(f"{len(firsts)} texts and {len(seconds)} pairs; expected as many")
    return firsts, seconds, False


def _rows(
    tokenizer: _Tokenizer, firsts: list[str], seconds: list[str] | None, options: BatchOptions
) -> list[Row]:
    adds = options.get("add_special_tokens", True)
    truncation = options.get("truncation", False)
    cuts = truncation not in (False, "do_not_truncate")
    keeps_overflow = options.get("return_overflowing_tokens", False)
    strategy = _strategy(truncation)
    if keeps_overflow and cuts and seconds is not None and strategy == "longest_first":
        raise ValueError(
            "return_overflowing_tokens with pairs needs truncation 'only_first' or 'only_second'; "
            "'longest_first' cuts both texts"
        )
    encoded = _encode(tokenizer, firsts, options)
    others = [None] * len(firsts) if seconds is None else _encode(tokenizer, seconds, options)
    rows: list[Row] = []
    for sample, (first, second) in enumerate(zip(encoded, others, strict=True)):
        made = build_rows(
            sample,
            first,
            second,
            template=tokenizer.parts.template if adds else Template(),
            max_length=_max_length(tokenizer, options) if cuts else None,
            stride=options.get("stride", 0) if keeps_overflow else 0,
            strategy=strategy,
            side=tokenizer.config.truncation_side,
        )
        rows += made if keeps_overflow else made[:1]
    return rows


def _strategy(truncation: object) -> Strategy:
    match truncation:
        case "only_first" | "only_second" | "longest_first":
            return truncation
        case True | False | "do_not_truncate":
            return "longest_first"
    raise ValueError(
        f"truncation is {truncation!r}; expected True, False, 'longest_first', 'only_first' or "
        "'only_second'"
    )


def _encode(
    tokenizer: _Tokenizer, texts: list[str], options: BatchOptions
) -> Sequence[EncodedText]:
    allowed: SpecialTokens = () if options.get("split_special_tokens", False) else "all"
    if options.get("return_offsets_mapping", False):
        located = [
            tokenizer.locate(text, allowed_special=allowed, disallowed_special=()) for text in texts
        ]
        return [EncodedText(one.ids, one.offsets, tokenizer.trim_offsets) for one in located]
    ragged = tokenizer.encode_batch(
        texts, add_special_tokens=False, allowed_special=allowed, disallowed_special=()
    )
    return [
        EncodedText(ids.tolist(), np.zeros((len(ids), 2), dtype=np.int64), _untrimmed)
        for ids in ragged
    ]


def _untrimmed(_ids: Sequence[int], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    return offsets


def _max_length(tokenizer: _Tokenizer, options: BatchOptions) -> int | None:
    max_length = options.get("max_length")
    return tokenizer.config.max_length if max_length is None else max_length


def _padding(tokenizer: _Tokenizer, options: BatchOptions) -> Padding:
    stored = tokenizer.parts.padding
    pad_id = tokenizer.pad_id
    if pad_id is None and stored is None:
        raise ValueError(
            "this tokenizer has no pad_token; name one in tokenizer_config.json, or pass "
            "padding=False"
        )
    return Padding(
        pad_id=stored.pad_id if pad_id is None and stored is not None else pad_id or 0,
        pad_type_id=0 if stored is None else stored.pad_type_id,
        side=options.get("padding_side") or tokenizer.config.padding_side,
        multiple_of=options.get("pad_to_multiple_of"),
    )


def _columns(
    tokenizer: _Tokenizer, rows: list[Row], options: BatchOptions, *, is_single: bool
) -> BatchEncoding:
    wanted = {
        "input_ids": True,
        "token_type_ids": options.get("return_token_type_ids"),
        "attention_mask": options.get("return_attention_mask"),
        "special_tokens_mask": options.get("return_special_tokens_mask", False),
        "offset_mapping": options.get("return_offsets_mapping", False),
    }
    defaults = tokenizer.config.columns or _default_columns(tokenizer.parts.template)
    columns: dict[str, list[Any]] = {
        name: [getattr(row, name) for row in rows]
        for name in _ALL_COLUMNS
        if (name in defaults if wanted[name] is None else wanted[name])
    }
    if options.get("return_length", False):
        columns["length"] = [len(row.input_ids) for row in rows]
    if options.get("return_overflowing_tokens", False):
        columns["overflow_to_sample_mapping"] = [row.sample for row in rows]
    kind = options.get("return_tensors")
    if kind is not None:
        return BatchEncoding({name: _tensor(name, rows, kind) for name, rows in columns.items()})
    if is_single:
        return BatchEncoding({name: column[0] for name, column in columns.items()})
    return BatchEncoding(columns)


def _default_columns(template: Template) -> tuple[str, ...]:
    has_types = any(piece.type_id for piece in template.single + template.pair)
    has_special = template != Template()
    return _ALL_COLUMNS[:3] if has_types and has_special else (_ALL_COLUMNS[0], _ALL_COLUMNS[2])


def _tensor(name: str, rows: list[Any], kind: Literal["pt", "np"]) -> Any:
    if kind not in ("pt", "np"):
        raise ValueError(f"return_tensors is {kind!r}; expected 'pt', 'np' or None")
    if len({len(row) if isinstance(row, list) else 0 for row in rows}) > 1:
        raise ValueError(
            f"the rows of {name} differ in length; pass padding=True, or leave out return_tensors"
        )
    array = np.array(rows, dtype=np.int64)
    if kind == "np":
        return array
    import torch

    return torch.from_numpy(array)

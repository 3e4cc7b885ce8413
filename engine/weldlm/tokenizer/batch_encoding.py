"""Texts to padded rows, in the shape that transformers' tokenizers give.

Nothing inside the engine is padded: this is for code that was written for transformers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from weldlm.tokenizer.parts import Padding, Template
from weldlm.tokenizer.truncation import Side, Strategy, split_length, windows

__all__ = ["BatchEncoding", "EncodedText", "Row", "build_rows", "pad_rows"]

Offsets: TypeAlias = NDArray[np.int64]  # [ids, 2]


class BatchEncoding(dict[str, Any]):
    """Columns by name, also as attributes: `input_ids`, `attention_mask`, ..."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(
                f"there is no column {name!r}; expected one of {sorted(self)}"
            ) from error

    def to(self, device: Any) -> "BatchEncoding":
        """The same with tensors on `device`."""
        return BatchEncoding(
            {
                name: column.to(device) if hasattr(column, "to") else column
                for name, column in self.items()
            }
        )


@dataclass(frozen=True, slots=True)
class EncodedText:
    """Ids of one text, without special tokens of a template, and their places."""

    ids: Sequence[int]
    offsets: Offsets
    trim: Callable[[Sequence[int], Offsets], Offsets]  # makes places of offsets, once it is cut

    def part(self, start: int, end: int) -> "EncodedText":
        return EncodedText(self.ids[start:end], self.offsets[start:end], self.trim)

    def places(self) -> list[tuple[int, int]]:
        return [(begin, end) for begin, end in self.trim(self.ids, self.offsets).tolist()]


@dataclass(slots=True)
class Row:
    """One row of a batch; columns of equal lengths."""

    sample: int  # the input it is made from
    input_ids: list[int] = field(default_factory=list)
    token_type_ids: list[int] = field(default_factory=list)
    special_tokens_mask: list[int] = field(default_factory=list)
    attention_mask: list[int] = field(default_factory=list)
    offset_mapping: list[tuple[int, int]] = field(default_factory=list)

    def add_special(self, ids: Sequence[int], type_id: int) -> None:
        self.input_ids += ids
        self.token_type_ids += [type_id] * len(ids)
        self.special_tokens_mask += [1] * len(ids)
        self.offset_mapping += [(0, 0)] * len(ids)

    def add_text(self, text: EncodedText, type_id: int) -> None:
        self.input_ids += text.ids
        self.token_type_ids += [type_id] * len(text.ids)
        self.special_tokens_mask += [0] * len(text.ids)
        self.offset_mapping += text.places()


def build_rows(
    sample: int,
    first: EncodedText,
    second: EncodedText | None,
    *,
    template: Template,
    max_length: int | None,
    stride: int,
    strategy: Strategy,
    side: Side,
) -> list[Row]:
    """The row of one input, and behind it those of what overflows `max_length`.

    Args:
        sample: number of the input.
        first: its text.
        second: the text it is paired with.
        template: special tokens to put around; one that adds nothing where none are wanted.
        max_length: of a row with its special tokens; None does not cut.
        stride: tokens that an overflowing row repeats.
        strategy: which text of a pair is cut.
        side: from which side.

    Raises:
        ValueError: the special tokens alone are longer than `max_length`, or the text to cut is
            too short.
    """
    pieces = template.single if second is None else template.pair
    num_special = sum(len(p.source) for p in pieces if isinstance(p.source, tuple))
    if max_length is not None and max_length < num_special:
        raise ValueError(
            f"max_length is {max_length}; expected at least the {num_special} special tokens of a "
            "row"
        )
    room = None if max_length is None else max_length - num_special
    rows = []
    for part, other in _parts(first, second, room, stride=stride, strategy=strategy, side=side):
        row = Row(sample)
        for piece in pieces:
            if isinstance(piece.source, tuple):
                row.add_special(piece.source, piece.type_id)
            elif piece.source == "A":
                row.add_text(part, piece.type_id)
            elif other is not None:
                row.add_text(other, piece.type_id)
        row.attention_mask = [1] * len(row.input_ids)
        rows.append(row)
    return rows


def _parts(
    first: EncodedText,
    second: EncodedText | None,
    room: int | None,
    *,
    stride: int,
    strategy: Strategy,
    side: Side,
) -> Iterator[tuple[EncodedText, EncodedText | None]]:
    """What of the texts goes into each row; where both are cut, only the first row is made."""
    if room is None:
        yield first, second
        return
    if second is None:
        if strategy == "only_second":
            raise ValueError("truncation is 'only_second', but there is no second text")
        for start, end in windows(len(first.ids), room, stride=stride, side=side):
            yield first.part(start, end), None
        return
    sizes = split_length(len(first.ids), len(second.ids), room, strategy)
    firsts = windows(len(first.ids), sizes[0], stride=stride, side=side)
    seconds = windows(len(second.ids), sizes[1], stride=stride, side=side)
    yield first.part(*firsts[0]), second.part(*seconds[0])
    if strategy == "only_first":
        for window in firsts[1:]:
            yield first.part(*window), second
    elif strategy == "only_second":
        for window in seconds[1:]:
            yield first, second.part(*window)


def pad_rows(
    rows: Sequence[Row],
    padding: Padding,
    *,
    how: Literal["longest", "max_length"],
    max_length: int | None,
) -> None:
    """Fills rows up to one length, in place.

    Raises:
        ValueError: `how` is "max_length" and there is none.
    """
    if how == "max_length" and max_length is None:
        raise ValueError("padding is 'max_length', but no max_length is given")
    longest = max((len(row.input_ids) for row in rows), default=0)
    length = longest if how == "longest" else max_length or 0
    if padding.multiple_of:
        length = -(-length // padding.multiple_of) * padding.multiple_of
    for row in rows:
        missing = length - len(row.input_ids)
        if missing <= 0:
            continue
        columns = (
            (row.input_ids, padding.pad_id),
            (row.token_type_ids, padding.pad_type_id),
            (row.special_tokens_mask, 1),
            (row.attention_mask, 0),
        )
        place = len(row.input_ids) if padding.side == "right" else 0
        for column, filler in columns:
            column[place:place] = [filler] * missing
        row.offset_mapping[place:place] = [(0, 0)] * missing

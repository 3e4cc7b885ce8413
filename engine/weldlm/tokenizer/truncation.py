"""Cutting token sequences to a length, as the tokenizers library cuts them."""

from typing import Literal, TypeAlias

__all__ = ["Side", "Strategy", "split_length", "windows"]

Side: TypeAlias = Literal["left", "right"]
Strategy: TypeAlias = Literal["longest_first", "only_first", "only_second"]


def windows(length: int, size: int, *, stride: int, side: Side) -> list[tuple[int, int]]:
    """Ranges of at most `size` tokens that cover `length` of them; the first is the one kept.

    Args:
        length: tokens there are.
        size: tokens of a window.
        stride: tokens that one window shares with the next.
        side: from which tokens are cut: "right" keeps the beginning.

    Raises:
        ValueError: windows that share so many tokens do not get on.
    """
    if length <= size:
        return [(0, length)]
    if size == 0:
        return [(0, 0), (0, length)]
    if stride >= size:
        raise ValueError(
            f"stride is {stride}; expected less than the {size} tokens that max_length leaves "
            "for the text"
        )
    ranges = [(0, size)]
    while ranges[-1][1] < length:
        start = ranges[-1][0] + size - stride
        ranges.append((start, min(start + size, length)))
    if side == "right":
        return ranges
    return [(length - end, length - start) for start, end in ranges]


def split_length(first: int, second: int, max_length: int, strategy: Strategy) -> tuple[int, int]:
    """How many tokens each text of a pair keeps within `max_length` tokens of both.

    Raises:
        ValueError: the text to cut is shorter than what must go.
    """
    excess = first + second - max_length
    if excess <= 0:
        return first, second
    match strategy:
        case "only_first":
            return _shortened("first", first, excess), second
        case "only_second":
            return first, _shortened("second", second, excess)
    shorter, longer = min(first, second), max(first, second)
    longer = shorter if shorter > max_length else max(shorter, max_length - shorter)
    if shorter + longer > max_length:
        shorter = max_length // 2
        longer = max_length - shorter
    return (shorter, longer) if first <= second else (longer, shorter)


def _shortened(which: str, length: int, excess: int) -> int:
    if length <= excess:
        raise ValueError(
            f"the {which} text has {length} tokens, but {excess} must go; raise max_length or cut "
            "the other text"
        )
    return length - excess

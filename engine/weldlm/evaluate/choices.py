"""Questions with choices, answered by which continuation is most probable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weldlm.scoring import TextScorer
from weldlm.text_file import decode_text, parse_json

__all__ = ["ChoiceRow", "choice_scores", "read_choices"]

Bools = npt.NDArray[np.bool_]

_EXPECTED = '{"prompt": text, "choices": [text, ...], "answer": index from 0 or one of the choices}'


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    """A question."""

    prompt: str
    choices: tuple[str, ...]
    answer: int


def read_choices(path: Path) -> list[ChoiceRow]:
    """Reads JSON lines of {"prompt", "choices", "answer"}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, or a line is none of that kind.
    """
    lines = decode_text(path.read_bytes(), str(path)).splitlines()
    rows = [
        _row(parse_json(line, f"{path}:{number}", expected=_EXPECTED), f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not rows:
        raise ValueError(f"{path} is empty; expected lines {_EXPECTED}")
    return rows


def choice_scores(
    scorer: TextScorer,
    rows: Sequence[ChoiceRow],
    *,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Bools]:
    """Says of each row whether the right choice was found, [rows].

    Returns:
        "accuracy": by the sum of log-probabilities; "accuracy_per_byte": by that sum over the
        UTF-8 bytes of the choice, which takes the advantage from short ones.

    Raises:
        ValueError: a row does not fit into the context, or the model is an encoder.
    """
    pairs = [(row.prompt, choice) for row in rows for choice in row.choices]
    found = scorer.continuations(pairs, report=report)
    sums = [continuation.logprob for continuation in found]
    means = [
        continuation.logprob / len(choice.encode(errors="surrogatepass"))
        for continuation, (_, choice) in zip(found, pairs, strict=True)
    ]
    return {"accuracy": _hits(rows, sums), "accuracy_per_byte": _hits(rows, means)}


def _hits(rows: Sequence[ChoiceRow], scores: Sequence[float]) -> Bools:
    ends = accumulate((len(row.choices) for row in rows), initial=0)
    best = [int(np.argmax(scores[start:end])) for start, end in pairwise(ends)]
    return np.array([index == row.answer for index, row in zip(best, rows, strict=True)])


def _row(value: Any, place: str) -> ChoiceRow:
    value = value if isinstance(value, dict) else {}
    prompt, choices, answer = (value.get(name) for name in ("prompt", "choices", "answer"))
    is_whole = (
        isinstance(prompt, str)
        and isinstance(choices, list)
        and len(choices) > 1
        and all(isinstance(choice, str) and choice for choice in choices)
    )
    if is_whole and answer in choices:
        answer = choices.index(answer)
    is_index = isinstance(answer, int) and not isinstance(answer, bool)
    if not is_whole or not is_index or not 0 <= answer < len(choices):
        raise ValueError(f"{place} is none of the rows {_EXPECTED}; mend or leave it out")
    return ChoiceRow(prompt, tuple(choices), answer)

"""The task of finding what answers a question in its context."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from weldlm.data.labelled_rows import Answer, Question
from weldlm.heads import QuestionAnswerer
from weldlm.objectives import AnswerSpans
from weldlm.task_metrics import judge_answers
from weldlm.tasks.encoding import EncodedRow, Encoding, Piece, joined
from weldlm.tasks.task import Prediction, Task, forward_batches

__all__ = ["AnsweringTask"]

_MOST_STRIDE = 128  # tokens of the context that two windows share
_MOST_ANSWER_TOKENS = 30
_DIGITS = 6


@dataclass(slots=True)
class _Window(Piece):
    """A question with a part of its context."""

    first: int = 0  # token of the context
    places: list[tuple[int, int]] = field(default_factory=list)  # characters of its tokens


@dataclass(frozen=True, slots=True)
class _Candidate:
    score: float  # sum of both logits
    start: int  # character
    end: int


@dataclass(frozen=True, slots=True)
class AnsweringTask(Task):
    """First and last token of the answer, in windows of a context that is too long.

    Where a window holds no answer, the first token stands for both.
    """

    encoding: Encoding
    may_be_empty: bool = False  # some contexts answer nothing, so that the answer may be ""

    def encode(self, row: Question) -> EncodedRow:
        return EncodedRow(row, tuple(self._windows(row)))

    def examples(self, rows: Sequence[EncodedRow]) -> AnswerSpans:
        spans = [_span(piece, row.row.answers) for row in rows for piece in row.pieces]
        return AnswerSpans(joined(rows), np.array(spans, np.int64).reshape(-1, 2))

    def predict(self, model: QuestionAnswerer, rows: Sequence[EncodedRow]) -> list[Prediction]:
        logits = _logits_of_pieces(model, rows)
        return [self._prediction(row, [next(logits) for _ in row.pieces]) for row in rows]

    def judge(
        self, rows: Sequence[EncodedRow], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        predicted = [prediction["answer"] for prediction in predictions]
        return judge_answers(predicted, [[a.text for a in row.row.answers] for row in rows])

    def _windows(self, row: Question) -> Iterator[_Window]:
        encoding = self.encoding
        num_question = len(encoding.tokenizer.locate(row.question, disallowed_special=()).ids)
        whole = encoding.texts(row.question, row.context)
        most = encoding.most_tokens
        is_cut = encoding.is_too_long(len(whole.input_ids))
        room = (most or 0) - (len(whole.input_ids) - self._num_context(row))
        if is_cut and room < 2:
            raise ValueError(
                f"the question leaves no room for its context in {most} tokens; shorten it"
            )
        is_split = is_cut and encoding.too_long == "split"
        encoded = encoding.texts(
            row.question,
            row.context,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_overflowing_tokens=True,
            max_length=most if is_cut else None,
            truncation="only_second" if is_cut else False,
            stride=min(_MOST_STRIDE, room // 2) if is_split else 0,
        )
        for place, piece in enumerate(encoding.pieces(encoded)):
            (inside,) = np.nonzero(np.array(encoded.special_tokens_mask[place]) == 0)
            context = inside[num_question:]
            if not len(context):
                raise ValueError("the context has no token; expected a text")
            places = [encoded.offset_mapping[place][token] for token in context]
            yield _Window(piece.ids, piece.token_types, int(context[0]), places)
            if not is_split:
                return

    def _num_context(self, row: Question) -> int:
        return len(self.encoding.tokenizer.locate(row.context, disallowed_special=()).ids)

    def _prediction(self, row: EncodedRow, logits: Sequence[Tensor]) -> Prediction:
        context = row.row.context
        found = [
            _best_span(piece, scores) for piece, scores in zip(row.pieces, logits, strict=True)
        ]
        best = max(found, key=lambda candidate: candidate.score)
        none = min(float(scores[0].sum()) for scores in logits)
        # of all pairs of tokens of all windows
        total = torch.stack([scores.logsumexp(dim=0).sum() for scores in logits]).logsumexp(dim=0)
        if self.may_be_empty and none > best.score:
            best = _Candidate(none, 0, 0)
        confidence = float((best.score - total).exp())
        return {
            "id": row.row.id,
            "answer": context[best.start : best.end],
            "start": best.start,
            "end": best.end,
            "confidence": round(confidence, _DIGITS),
        }


def _span(window: _Window, answers: Sequence[Answer]) -> tuple[int, int]:
    """The tokens of the first answer, where the window holds it whole."""
    begin, end = window.places[0][0], window.places[-1][1]
    for answer in answers[:1]:
        stop = answer.start + len(answer.text)
        if answer.start < begin or stop > end:
            continue
        inside = [
            place
            for place, (first, last) in enumerate(window.places)
            if last > answer.start and first < stop
        ]
        if inside:
            return window.first + inside[0], window.first + inside[-1]
    return 0, 0


def _best_span(window: _Window, logits: Tensor) -> _Candidate:
    """The span of the context with the highest sum of both logits."""
    start, end = logits[window.first : window.first + len(window.places)].unbind(dim=1)
    scores = start.unsqueeze(1) + end.unsqueeze(0)  # [first token, last token]
    allowed = torch.ones_like(scores, dtype=torch.bool).triu().tril(_MOST_ANSWER_TOKENS - 1)
    place = int(scores.masked_fill(~allowed, -torch.inf).argmax())
    first, last = divmod(place, len(window.places))
    return _Candidate(float(scores[first, last]), window.places[first][0], window.places[last][1])


def _logits_of_pieces(model: QuestionAnswerer, rows: Sequence[EncodedRow]) -> Iterator[Tensor]:
    for batch, logits in forward_batches(model, joined(rows)):
        yield from logits.split(batch.offsets.diff().tolist())

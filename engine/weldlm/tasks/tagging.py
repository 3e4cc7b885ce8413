"""The task of a label for each word: names, parts of speech and the like."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from weldlm.data.labelled_rows import LabelledWords
from weldlm.heads import TokenClassifier
from weldlm.objectives import IGNORED, LabelledTokens
from weldlm.task_metrics import find_entities, is_bio, judge_entities, judge_labels
from weldlm.tasks.classification import require_known
from weldlm.tasks.encoding import EncodedRow, Encoding, Piece, joined
from weldlm.tasks.task import Prediction, Task, forward_batches

__all__ = ["TaggingTask"]

_DIGITS = 6
_OUTSIDE = "O"


@dataclass(slots=True)
class _Words(Piece):
    """A sequence, with the words that it begins."""

    words: list[int] | None = None  # of each token that a word begins with, else -1


@dataclass(frozen=True, slots=True)
class TaggingTask(Task):
    """A label for each word, read from its first token.

    A sentence that is too long is cut between words. A word without a token of its own, and one
    that was cut off, has the label "O", or the first, with confidence None.
    """

    encoding: Encoding
    labels: tuple[str, ...]

    def encode(self, row: LabelledWords) -> EncodedRow:
        for tag in row.tags or ():
            require_known(tag, self.labels)
        return EncodedRow(row, tuple(self._pieces(row)))

    def examples(self, rows: Sequence[EncodedRow]) -> LabelledTokens:
        places = {label: place for place, label in enumerate(self.labels)}
        labels = [
            IGNORED if word < 0 else places[row.row.tags[word]]
            for row in rows
            for piece in row.pieces
            for word in piece.words
        ]
        return LabelledTokens(joined(rows), np.array(labels, np.int64))

    def predict(self, model: TokenClassifier, rows: Sequence[EncodedRow]) -> list[Prediction]:
        found: list[tuple[str, float]] = []  # of each token
        for _, logits in forward_batches(model, joined(rows)):
            confidence, place = logits.softmax(dim=1).max(dim=1)
            names = [self.labels[index] for index in place.tolist()]
            found += zip(names, confidence.tolist(), strict=True)
        tokens = iter(found)
        return [self._prediction(row, tokens) for row in rows]

    def judge(
        self, rows: Sequence[EncodedRow], predictions: Sequence[Prediction]
    ) -> dict[str, float]:
        predicted = [prediction["labels"] for prediction in predictions]
        expected = [row.row.tags for row in rows]
        of_words = judge_labels(
            [tag for tags in predicted for tag in tags], [tag for tags in expected for tag in tags]
        )
        if not is_bio(self.labels):
            return {"accuracy": of_words["accuracy"], "f1": of_words["macro_f1"]}
        return {"accuracy": of_words["accuracy"], **judge_entities(predicted, expected)}

    def _prediction(self, row: EncodedRow, tokens: Iterator[tuple[str, float]]) -> Prediction:
        words = row.row.words
        outside = _OUTSIDE if _OUTSIDE in self.labels else self.labels[0]
        labels = [outside] * len(words)
        confidences: list[float | None] = [None] * len(words)
        for piece in row.pieces:
            for word in piece.words:
                label, confidence = next(tokens)
                if word >= 0:
                    labels[word], confidences[word] = label, round(confidence, _DIGITS)
        prediction: Prediction = {"words": list(words), "labels": labels}
        prediction["confidences"] = confidences
        if is_bio(self.labels):
            prediction["entities"] = [
                {
                    "label": entity.kind,
                    "text": " ".join(words[entity.start : entity.end]),
                    "start": entity.start,
                    "end": entity.end,
                }
                for entity in find_entities(labels)
            ]
        return prediction

    def _pieces(self, row: LabelledWords) -> Iterator[_Words]:
        encoding = self.encoding
        encoded = encoding.texts(
            " ".join(row.words),
            None,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        ids = encoded.input_ids
        (inside,) = np.nonzero(np.array(encoded.special_tokens_mask) == 0)
        begin, end = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        before, after = ids[:begin], ids[end:]
        firsts = _first_tokens(row.words, encoded.offset_mapping[begin:end])
        if not encoding.is_too_long(len(ids)):
            yield _Words(ids, None, [*[-1] * len(before), *firsts, *[-1] * len(after)])
            return
        room = (encoding.most_tokens or 0) - len(before) - len(after)
        for start, stop in _spans(firsts, room, is_split=encoding.too_long == "split"):
            words = [*[-1] * len(before), *firsts[start:stop], *[-1] * len(after)]
            part = ids[begin + start : begin + stop]
            yield _Words([*before, *part, *after], None, words)


def _first_tokens(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The word that each token begins, by its place in the words with spaces between them; or -1.

    A token may have the space before its word.
    """
    lengths = [len(word) + 1 for word in words]
    starts = np.cumsum([0, *lengths])
    firsts, last = [], -1
    for begin, end in offsets:
        word = int(np.searchsorted(starts, begin, side="right")) - 1
        if begin == starts[word + 1] - 1 and end > begin + 1:  # the space behind a word
            word += 1
        firsts.append(word if word > last else -1)
        last = max(word, last)
    return firsts


def _spans(firsts: Sequence[int], room: int, *, is_split: bool) -> Iterator[tuple[int, int]]:
    """Parts of at most `room` tokens, each from the beginning of a word; the first if not split."""
    if room < 1:
        raise ValueError("max_length leaves no room beside the special tokens; raise it")
    start = 0
    while start < len(firsts):
        stop = min(start + room, len(firsts))
        if stop < len(firsts):
            cut = next((at for at in range(stop, start, -1) if firsts[at] >= 0), stop)
            stop = cut
        yield start, stop
        if not is_split:
            return
        # a word longer than the room is cut: only its first token counts
        start = next((at for at in range(stop, len(firsts)) if firsts[at] >= 0), len(firsts))

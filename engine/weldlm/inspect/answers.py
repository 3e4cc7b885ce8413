"""What a model answers to a text: the labels of its loss, and scores that are worth explaining."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weldlm.heads import (
    CausalLM,
    MaskedLM,
    Model,
    Regressor,
    Seq2SeqLM,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm.heads.language import VocabularyModel
from weldlm.inspect.attribution import Score
from weldlm.inspect.reading import Reading, name_of_score
from weldlm.inspect.sample import scores_of
from weldlm.tokenizer import Tokenizer

__all__ = ["Labels", "Question", "labels_of", "questions_of"]

_MOST_PLACES = 8  # of a target whose tokens are explained, where none are named
_MOST_LABELS = 3


@dataclass(frozen=True, slots=True)
class Labels:
    """What the model's loss is taken of."""

    values: Tensor  # as the model's forward takes them
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One score: why does the model give it?"""

    row: int  # of the scores
    column: int
    name: str  # of the column: a token or a label
    place: int | None  # of the token that is predicted or labelled; none of a whole text
    score: Score
    probability: float | None  # of the column in its row; none of a number


def labels_of(model: Model, reading: Reading) -> Labels:
    """The labels with which the heads of a model are judged on one text.

    Where the text does not say them, they are what the model itself holds for most probable.

    Raises:
        ValueError: the text has nothing to predict, or the model's head no such loss.
    """
    ids = reading.sample.ids
    if isinstance(model, CausalLM):
        if len(ids) < 2:
            raise ValueError("text has 1 token; expected at least 2, of which one predicts another")
        return Labels(torch.cat((ids[1:], torch.tensor([-100]))), "the next tokens of the text")
    if isinstance(model, Seq2SeqLM):
        assert reading.written_ids is not None
        author = "what the model itself writes" if reading.is_own_target else "the target"
        return Labels(reading.written_ids, author)
    if isinstance(model, MaskedLM):
        _require_mask(reading)
        labels, best = torch.full_like(ids, -100), _best(model, reading)
        labels[list(reading.masked)] = best[list(reading.masked)]
        return Labels(labels, "the model's own tokens at the masks")
    if isinstance(model, SequenceClassifier | TokenClassifier):
        what = "label" if isinstance(model, SequenceClassifier) else "labels of the tokens"
        return Labels(_best(model, reading), f"the model's own {what}")
    raise ValueError(
        f"the model has the head {model.kind}; expected one of language, or a classifier, for the "
        "loss that ablation changes"
    )


def questions_of(
    model: Model,
    tokenizer: Tokenizer,
    reading: Reading,
    *,
    target: str | None = None,
    positions: Sequence[int] = (),
) -> list[Question]:
    """The scores to attribute.

    Args:
        model: with a head over tokens or labels.
        tokenizer: that of the model.
        reading: the text.
        target: a token, or a label, that is explained; what the model holds for most probable, or
            what stands in the text, where None.
        positions: places of the tokens whose prediction is explained. Where none are given: the
            token behind the text, the masks, the first tokens of a target; of a classifier of
            tokens the one that it is surest of. A text is judged as a whole: none can be given.

    Raises:
        ValueError: there is no such place, token or label, or the head has no scores.
    """
    if not isinstance(model, VocabularyModel | TokenClassifier | SequenceClassifier | Regressor):
        raise ValueError(
            f"the model has the head {model.kind}; expected one that scores tokens or labels, for "
            "attribution"
        )
    scores = _scores(model, reading)
    column = None if target is None else _column(model, tokenizer, target)
    if isinstance(model, SequenceClassifier | Regressor):
        if positions:
            raise ValueError(
                f"positions are {', '.join(map(str, positions))}; expected none, since the head "
                f"{model.kind} judges the text as a whole; leave them out"
            )
        columns = scores[0].argsort(descending=True)[:_MOST_LABELS].tolist()
        columns = columns if column is None else [column]
        return [_question(model, tokenizer, scores, 0, each, None) for each in columns]
    places = positions or _usual_places(model, reading, scores)
    first, last = _span(model, scores)
    for place in places:
        if not first <= place <= last:
            raise ValueError(
                f"positions has {place}; expected {first} to {last}, a token that is predicted"
            )
    given = _given_ids(model, reading)
    questions = []
    for place in places:
        row = place - first
        own = int(given.get(place, scores[row].argmax()))
        chosen = own if column is None else column
        questions.append(_question(model, tokenizer, scores, row, chosen, place))
    return questions


def _scores(model: Model, reading: Reading) -> Tensor:
    with torch.no_grad():
        return scores_of(model, reading.sample.inputs(model)).float().cpu()


def _best(model: Model, reading: Reading) -> Tensor:
    return _scores(model, reading).argmax(dim=-1)


def _require_mask(reading: Reading) -> None:
    if not reading.masked:
        raise ValueError("text has no mask; expected the model's mask token in it, such as [MASK]")


def _span(model: Model, scores: Tensor) -> tuple[int, int]:
    """The places that rows of scores speak of: a decoder's last row is of what comes next."""
    shift = 1 if isinstance(model, CausalLM) else 0
    return shift, len(scores) - 1 + shift


def _usual_places(model: Model, reading: Reading, scores: Tensor) -> Sequence[int]:
    if isinstance(model, CausalLM):
        return [len(scores)]
    if isinstance(model, Seq2SeqLM):
        return range(min(len(scores), _MOST_PLACES))
    if isinstance(model, MaskedLM):
        _require_mask(reading)
        return reading.masked[:_MOST_PLACES]
    probabilities = scores.softmax(dim=-1)
    is_outside = torch.tensor([label == "O" for label in model.config.labels])
    if not is_outside.all():
        probabilities = probabilities.masked_fill(is_outside, -1.0)
    return [int(probabilities.max(dim=-1).values.argmax())]


def _given_ids(model: Model, reading: Reading) -> dict[int, int]:
    """What stands at the places that are predicted, where that is known."""
    if isinstance(model, CausalLM):
        return dict(enumerate(reading.sample.ids.tolist()))
    if isinstance(model, Seq2SeqLM) and reading.written_ids is not None:
        return dict(enumerate(reading.written_ids.tolist()))
    return {}


def _column(model: Model, tokenizer: Tokenizer, target: str) -> int:
    if not isinstance(model, VocabularyModel):
        labels = model.config.labels
        if target not in labels:
            raise ValueError(f"target is {target!r}; expected a label: {', '.join(labels[:12])}")
        return labels.index(target)
    known = tokenizer.token_to_id(target)
    ids = [known] if known is not None else tokenizer.encode_ordinary(target)
    if len(ids) != 1:
        pieces = ", ".join(repr(name_of_score(model, tokenizer, token_id)) for token_id in ids)
        raise ValueError(f"target {target!r} is {len(ids)} tokens ({pieces}); expected one token")
    return ids[0]


def _question(
    model: Model, tokenizer: Tokenizer, scores: Tensor, row: int, column: int, place: int | None
) -> Question:
    is_number = isinstance(model, Regressor)
    return Question(
        row=row,
        column=column,
        name=name_of_score(model, tokenizer, column),
        place=place,
        score="logit" if is_number else "log_probability",
        probability=None if is_number else float(scores[row].softmax(dim=-1)[column]),
    )

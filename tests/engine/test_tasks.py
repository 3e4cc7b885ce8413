"""Rows of tasks as sequences with their labels, and predictions from known logits."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_tokenizer
from weldlm.data.labelled_rows import (
    Answer,
    Chat,
    LabelledText,
    LabelledWords,
    Question,
    SourceTarget,
)
from weldlm.heads import Regressor, SequenceClassifier
from weldlm.packing import PackedBatch
from weldlm.tasks import (
    AnsweringTask,
    ChatTask,
    ClassificationTask,
    EncodedRow,
    Encoding,
    RegressionTask,
    TaggingTask,
    TargetTask,
    balanced_weights,
    encode_rows,
)
from weldlm.tokenizer import Tokenizer, TokenizerConfig

BERT = tiny_tokenizer()
BPE = tiny_tokenizer("bpe", has_template=True)
CLS, SEP = BERT.special_tokens["[CLS]"], BERT.special_tokens["[SEP]"]
END = BPE.special_tokens["<|endoftext|>"]
TAGS = ("B-place", "I-place", "O")
CONTEXT = "the film is fine . we stay in Rome . the meal is great . the room is dull ."


class KnownLogits:
    """A model of which a function of the ids gives the logits."""

    training = False

    def __init__(self, of: Any) -> None:
        self._of = of

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def eval(self) -> None: ...

    def train(self, _mode: bool) -> None: ...

    def logits(self, batch: PackedBatch) -> Tensor:
        result: Tensor = self._of(batch)
        return result


def bert(**options: Any) -> Encoding:
    config = tiny_config("bert-base", vocab_size=BERT.vocab_size)
    return Encoding(tokenizer=BERT, config=config, **options)


def gpt(tokenizer: Tokenizer = BPE, **options: Any) -> Encoding:
    config = tiny_config(vocab_size=tokenizer.vocab_size, eos_id=END)
    return Encoding(tokenizer=tokenizer, config=config, **options)


def text(*texts: str, label: str | None = "a") -> LabelledText:
    return LabelledText("f:1", texts[0], texts[1] if len(texts) > 1 else None, label)


def ids_of(rows: EncodedRow) -> list[list[int]]:
    return [piece.ids for piece in rows.pieces]


def test_a_pair_has_segments() -> None:
    task = ClassificationTask(bert(), ("a",))

    (piece,) = task.encode(text("the film", "is")).pieces

    assert piece.ids == [
        CLS,
        *BERT.encode_ordinary("the film"),
        SEP,
        *BERT.encode_ordinary("is"),
        SEP,
    ]
    assert piece.token_types == [0, 0, 0, 0, 1, 1]


def test_special_tokens_in_a_text_are_text() -> None:
    (piece,) = ClassificationTask(bert(), ("a",)).encode(text("the [SEP] film")).pieces

    assert piece.ids.count(SEP) == 1


@pytest.mark.parametrize(
    ("too_long", "words"),
    [("truncate", ["the film is"]), ("split", ["the film is", "fine we stay", "in"])],
)
def test_a_text_that_is_too_long_is_cut_as_asked(too_long: Any, words: list[str]) -> None:
    task = ClassificationTask(bert(too_long=too_long, max_length=5), ("a",))

    row = task.encode(text("the film is fine we stay in"))

    assert ids_of(row) == [[CLS, *BERT.encode_ordinary(part), SEP] for part in words]
    assert task.examples([row]).labels.tolist() == [0] * len(words)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (text("the film is fine we stay"), "f:1: the row has 8 tokens; expected at most 5; sho"),
        (
            text("the", label="c"),
            "f:1: the label 'c' is none that was learned; expected one of a, b",
        ),
    ],
    ids=["long", "unseen"],
)
def test_a_row_that_cannot_be_encoded_is_named(row: LabelledText, problem: str) -> None:
    (bad,) = encode_rows(ClassificationTask(bert(max_length=5), ("a", "b")), [row])

    assert str(bad).startswith(problem)


def test_confidence_is_the_mean_probability_over_the_parts_of_a_text() -> None:
    task = ClassificationTask(bert(too_long="split", max_length=5), ("a", "b"))
    rows = [task.encode(text("the film is fine we stay")), task.encode(text("is"))]
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.0], [3.0, 0.0]])

    found = task.predict(KnownLogits(lambda _: logits), rows)  # type: ignore[arg-type]

    second = (1 / (1 + math.exp(-2)) + 1 / (1 + math.exp(1))) / 2
    assert found == [
        {"label": "b", "confidence": pytest.approx(second, abs=1e-6)},
        {"label": "a", "confidence": pytest.approx(1 / (1 + math.exp(-3)), abs=1e-6)},
    ]


def test_predictions_do_not_hang_on_the_other_rows() -> None:
    torch.manual_seed(0)
    config = tiny_config("bert-base", vocab_size=BERT.vocab_size, labels=("a", "b"))
    model, task = SequenceClassifier(config), ClassificationTask(bert(), ("a", "b"))
    rows = [task.encode(text(part)) for part in ("the film", "is fine . we stay", "Rome")]

    together = task.predict(model, rows)

    assert together == [task.predict(model, [row])[0] for row in rows]


def test_balanced_weights_make_labels_weigh_alike() -> None:
    weights = balanced_weights([0, 0, 0, 1], 2)

    assert weights.tolist() == pytest.approx([4 / (2 * 3), 4 / (2 * 1)])


def test_a_regressor_is_unscaled_in_its_last_layer() -> None:
    torch.manual_seed(0)
    config = tiny_config("bert-base", vocab_size=BERT.vocab_size, labels=("value",))
    model = Regressor(config)
    scaled = RegressionTask(bert(), center=100.0, scale=7.0)
    rows = [scaled.encode(text("the film")), scaled.encode(text("is"))]
    before = [row["value"] for row in scaled.predict(model, rows)]

    scaled.unscale(model)

    after = [row["value"] for row in RegressionTask(bert()).predict(model, rows)]
    assert after == pytest.approx(before, rel=1e-6)
    assert scaled.examples([scaled.encode(text("the", label="107"))]).scores.tolist() == [[1.0]]


@pytest.mark.parametrize("tokenizer", [BERT, BPE], ids=["wordpiece", "bpe"])
def test_the_first_token_of_a_word_has_its_label(tokenizer: Tokenizer) -> None:
    encoding = bert() if tokenizer is BERT else gpt()
    words, tags = ("stay", "in", "Romeroom", "."), ("O", "O", "B-place", "O")

    row = TaggingTask(encoding, TAGS).encode(LabelledWords("f:1", words, tags))
    labels = TaggingTask(encoding, TAGS).examples([row]).labels

    (piece,) = row.pieces
    labelled = [place for place, label in enumerate(labels) if label >= 0]
    texts = [
        tokenizer.decode(piece.ids[at:end])
        for at, end in zip(labelled, [*labelled[1:], None], strict=True)
    ]
    assert [TAGS[label] for label in labels if label >= 0] == list(tags)
    assert [part.replace("[SEP]", "").strip().lower() for part in texts] == [
        word.lower() for word in words
    ]


def test_a_sentence_is_split_between_words() -> None:
    task = TaggingTask(bert(too_long="split", max_length=6), TAGS)
    words = ("we", "stay", "in", "Romeroom", "the", "film")

    row = task.encode(LabelledWords("f:1", words, ("O",) * 6))

    assert [[word for word in piece.words if word >= 0] for piece in row.pieces] == [
        [0, 1, 2],
        [3],
        [4, 5],
    ]
    assert all(len(piece.ids) <= 6 for piece in row.pieces)


def test_tags_and_entities_of_known_logits() -> None:
    task = TaggingTask(bert(too_long="truncate", max_length=6), TAGS)
    row = task.encode(LabelledWords("f:1", ("in", "Rome", "the", "film", "is", "fine")))
    scores = torch.full((6, 3), -1.0)
    scores[torch.arange(6), torch.tensor([0, 2, 0, 1, 2, 0])] = 1.0

    (found,) = task.predict(KnownLogits(lambda _: scores), [row])  # type: ignore[arg-type]

    p = round(1 / (1 + 2 * math.exp(-2)), 6)
    assert found["labels"] == ["O", "B-place", "I-place", "O", "O", "O"]
    assert found["confidences"] == [pytest.approx(p, abs=2e-6)] * 4 + [None, None]
    assert found["entities"] == [{"label": "place", "text": "Rome the", "start": 1, "end": 3}]


def question(answer: str, context: str = CONTEXT) -> Question:
    answers = (Answer(answer, context.index(answer)),) if answer else ()
    return Question("f:1", "id", "where ?", context, answers)


@pytest.mark.parametrize("max_length", [12, 15, 64])
@pytest.mark.parametrize("answer", ["Rome", "the film", "is dull"])
def test_the_span_of_an_answer_is_its_text(answer: str, max_length: int) -> None:
    task = AnsweringTask(bert(too_long="split", max_length=max_length))

    row = task.encode(question(answer))
    spans = task.examples([row]).spans.tolist()

    texts = [
        CONTEXT[piece.places[first - piece.first][0] : piece.places[last - piece.first][1]]
        for piece, (first, last) in zip(row.pieces, spans, strict=True)
        if first
    ]
    assert texts
    assert set(texts) == {answer}
    assert all(len(piece.ids) <= max_length for piece in row.pieces)


def test_windows_cover_the_context_and_share_tokens() -> None:
    row = AnsweringTask(bert(too_long="split", max_length=12)).encode(question("Rome"))

    begins = [piece.places[0][0] for piece in row.pieces]
    ends = [piece.places[-1][1] for piece in row.pieces]

    assert (begins[0], ends[-1]) == (0, len(CONTEXT))
    assert all(begin < end for begin, end in zip(begins[1:], ends[:-1], strict=True))


@pytest.mark.parametrize(("may_be_empty", "answer"), [(False, "stay in Rome"), (True, "")])
def test_the_best_span_of_all_windows_answers(may_be_empty: bool, answer: str) -> None:
    task = AnsweringTask(bert(too_long="split", max_length=15), may_be_empty)
    row = task.encode(question("Rome"))
    torch.manual_seed(0)
    logits = torch.rand(sum(len(piece.ids) for piece in row.pieces), 2)
    inside = CONTEXT.index("stay"), CONTEXT.index("Rome")
    begin = 0
    for piece in row.pieces:
        logits[begin] = 9.0  # the first token stands for no answer
        starts = [place[0] for place in piece.places]
        if inside[0] in starts and inside[1] in starts:
            logits[begin + piece.first + starts.index(inside[0]), 0] = 8.0
            logits[begin + piece.first + starts.index(inside[1]), 1] = 8.0
        begin += len(piece.ids)

    (found,) = task.predict(KnownLogits(lambda _: logits), [row])  # type: ignore[arg-type]

    parts = logits.double().split([len(piece.ids) for piece in row.pieces])
    total = sum(float(part.exp().sum(dim=0).prod()) for part in parts)
    assert found["answer"] == answer
    assert CONTEXT[found["start"] : found["end"]] == answer
    assert found["confidence"] == pytest.approx(
        math.exp(18.0 if may_be_empty else 16.0) / total, abs=1e-6
    )


def test_a_target_ends_with_the_end_token() -> None:
    config = tiny_config("t5-small", vocab_size=BPE.vocab_size, eos_id=END, decoder_start_id=3)
    task = TargetTask(Encoding(tokenizer=BPE, config=config))

    examples = task.examples([task.encode(SourceTarget("f:1", "the film", "fine"))])

    assert examples.sources.ids.tolist() == BPE.encode("the film")
    assert examples.targets.ids.tolist() == [*BPE.encode("fine"), END]
    assert examples.start_id == 3


def answered(task: ChatTask, messages: Sequence[dict[str, str]]) -> str:
    examples = task.examples([task.encode(Chat("f:1", tuple(messages)))])
    return task.encoding.tokenizer.decode(examples.texts.ids[examples.is_answer])


CHAT = [
    {"role": "user", "content": "where ?"},
    {"role": "assistant", "content": "in Rome"},
    {"role": "user", "content": "the film ?"},
    {"role": "assistant", "content": "is fine <|user|>"},
]


def test_all_that_the_assistant_says_is_learned_and_nothing_else() -> None:
    assert answered(ChatTask(gpt()), CHAT) == "in Rome<|endoftext|>is fine <|user|><|endoftext|>"


def test_a_chat_cannot_forge_special_tokens() -> None:
    (piece,) = ChatTask(gpt()).encode(Chat("f:1", tuple(CHAT))).pieces

    assert piece.ids.count(BPE.special_tokens["<|user|>"]) == 2


def test_the_prompt_is_the_chat_before_its_last_answer() -> None:
    (piece,) = ChatTask(gpt()).encode(Chat("f:1", tuple(CHAT))).pieces

    assert BPE.decode(piece.prompt) == (
        "<|user|>where ?<|endoftext|><|assistant|>in Rome<|endoftext|><|user|>the film ?"
        "<|endoftext|><|assistant|>"
    )
    assert piece.ids[: len(piece.prompt)] == piece.prompt


def test_without_a_template_an_answer_follows_its_prompt() -> None:
    plain = Tokenizer(BPE.parts, TokenizerConfig(roles=BPE.config.roles))
    task = ChatTask(gpt(plain))

    row = task.encode(Chat("f:1", tuple(CHAT[:2])))

    assert plain.decode(row.pieces[0].ids) == "where ?in Rome<|endoftext|>"
    assert answered(task, CHAT[:2]) == "in Rome<|endoftext|>"


def test_a_template_that_rewrites_earlier_messages_is_refused() -> None:
    template = "{% for m in messages %}{% if loop.last %}last{% endif %}{{ m.content }}{% endfor %}"
    config = TokenizerConfig(roles=BPE.config.roles, chat_templates={"default": template})

    with pytest.raises(ValueError, match="writes earlier messages in another way"):
        ChatTask(gpt(Tokenizer(BPE.parts, config))).encode(Chat("f:1", tuple(CHAT)))


@pytest.mark.parametrize("kind", ["split", "error"])
def test_a_chat_is_never_split(kind: Any) -> None:
    task = ChatTask(gpt(too_long=kind, max_length=9))

    with pytest.raises(ValueError, match=r"expected (error or truncate for a chat|at most 9)"):
        task.encode(Chat("f:1", tuple(CHAT)))


def test_examples_keep_the_order_of_rows() -> None:
    task = ClassificationTask(bert(), ("a", "b"))
    rows = [
        task.encode(text(part, label=label)) for part, label in (("is", "b"), ("the film", "a"))
    ]

    examples = task.examples(rows)

    assert examples.labels.tolist() == [1, 0]
    assert np.diff(examples.texts.offsets).tolist() == [3, 4]

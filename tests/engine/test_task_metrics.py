"""Measures of tasks against values worked out by hand, and against torchmetrics."""

import random
from collections.abc import Sequence

import pytest

from weldlm.task_metrics import (
    Entity,
    find_entities,
    is_bio,
    judge_answers,
    judge_entities,
    judge_labels,
    judge_numbers,
    judge_texts,
    normalize_answer,
)


def test_accuracy_and_f1_of_labels() -> None:
    found = judge_labels(list("aabbc"), list("abbbd"))

    # a: 1 hit of 2 and 1; b: 2 hits of 2 and 3; c and d: none
    assert found == pytest.approx({"accuracy": 0.6, "macro_f1": (2 / 3 + 0.8) / 4, "micro_f1": 0.6})


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("B-x I-x O B-y", [Entity(0, 2, "x"), Entity(3, 4, "y")]),
        ("B-x B-x I-x", [Entity(0, 1, "x"), Entity(1, 3, "x")]),
        ("I-x I-y O I-y", [Entity(0, 1, "x"), Entity(1, 2, "y"), Entity(3, 4, "y")]),
        ("B-x I-y", [Entity(0, 1, "x"), Entity(1, 2, "y")]),
        ("S-x B-y E-y E-y", [Entity(0, 1, "x"), Entity(1, 3, "y"), Entity(3, 4, "y")]),
        ("U-x I-x L-x O", [Entity(0, 1, "x"), Entity(1, 3, "x")]),
        ("O", []),
    ],
)
def test_entities_of_tags(tags: str, entities: list[Entity]) -> None:
    assert find_entities(tags.split()) == entities


def test_an_entity_is_found_only_with_both_ends_and_its_kind() -> None:
    expected = [["B-x", "I-x", "O", "B-y"], ["B-z", "O"]]
    predicted = [["B-x", "I-x", "O", "B-x"], ["B-z", "I-z"]]

    # 1 hit of 3 predicted and 3 expected; x: 1 of 2 and 1, y: 0, z: 0
    assert judge_entities(predicted, expected) == pytest.approx(
        {"precision": 1 / 3, "recall": 1 / 3, "f1": 1 / 3, "macro_f1": 2 / 9}
    )


@pytest.mark.parametrize(("tags", "expected"), [("O B-x I-x", True), ("NN VB", False)])
def test_tags_of_entities_are_told_from_others(tags: str, expected: bool) -> None:
    assert is_bio(tags.split()) == expected


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Panthers!", "panthers"),
        ("an apple, a day", "apple day"),
        ("Anna's theory", "annas theory"),
        ("a.b", "ab"),
        ("...", ""),
    ],
)
def test_answers_are_normalized_as_squad_does(text: str, normalized: str) -> None:
    assert normalize_answer(text) == normalized


def test_an_answer_is_judged_by_the_truth_that_fits_best() -> None:
    predicted = ["the old city of Rome", "308", "", "x"]
    expected = [["Rome", "city of Rome"], ["308."], [], ["y"]]

    # first: 3 of 4 words and 3, 6 / 7
    assert judge_answers(predicted, expected) == pytest.approx(
        {"exact_match": 0.5, "f1": (6 / 7 + 1 + 1 + 0) / 4}
    )


def test_correlations_and_errors_of_numbers() -> None:
    found = judge_numbers([1.0, 2.0, 2.0, 10.0], [1.0, 3.0, 2.0, 4.0])

    # deviations are -2.75, -1.75, -1.75, 6.25 and -1.5, 0.5, -0.5, 1.5; ranks 0, 1.5, 1.5, 3
    # and 0, 2, 1, 3, whose deviations are -1.5, 0, 0, 1.5 and -1.5, 0.5, -0.5, 1.5
    assert found == pytest.approx(
        {
            "pearson": 13.5 / (52.75 * 5) ** 0.5,
            "spearman": 4.5 / (4.5 * 5) ** 0.5,
            "mae": 1.75,
            "rmse": (37 / 4) ** 0.5,
        }
    )


def test_numbers_that_are_all_the_same_correlate_with_nothing() -> None:
    assert judge_numbers([1.0, 1.0], [1.0, 2.0])["pearson"] == 0.0


@pytest.mark.parametrize(
    ("predicted", "expected"), [([], []), (["a"], ["a", "b"])], ids=["none", "fewer"]
)
def test_what_differs_in_number_is_refused(
    predicted: Sequence[str], expected: Sequence[str]
) -> None:
    with pytest.raises(ValueError, match="expected as many, and at least one"):
        judge_labels(predicted, expected)


@pytest.mark.slow
def test_measures_equal_those_of_torchmetrics() -> None:
    functional = pytest.importorskip("torchmetrics.functional")
    text = pytest.importorskip("torchmetrics.functional.text")
    torch = pytest.importorskip("torch")
    draw = random.Random(0)
    labels = [[draw.randrange(5) for _ in range(200)] for _ in range(2)]
    numbers = [[round(draw.gauss(0, 1), 1) for _ in range(200)] for _ in range(2)]
    words = "a The cat, sat on an mat. dog"
    answers = [[" ".join(draw.choices(words.split(), k=4)) for _ in range(50)] for _ in range(2)]
    theirs = [torch.tensor(values) for values in labels]
    floats = [torch.tensor(values, dtype=torch.float64) for values in numbers]
    questions = [{"prediction_text": answer, "id": str(n)} for n, answer in enumerate(answers[0])]
    truths = [
        {"answers": {"answer_start": [0], "text": [answer]}, "id": str(n)}
        for n, answer in enumerate(answers[1])
    ]
    squad = text.squad(questions, truths)

    found = {
        **judge_labels(*(list(map(str, values)) for values in labels)),
        **judge_numbers(*numbers),
        **judge_answers(answers[0], [[answer] for answer in answers[1]]),
    }

    macro = functional.f1_score(*theirs, task="multiclass", num_classes=5, average="macro")
    assert found == pytest.approx(
        {
            "accuracy": float((theirs[0] == theirs[1]).double().mean()),
            "macro_f1": float(macro),
            "micro_f1": float(functional.f1_score(*theirs, task="multiclass", num_classes=5)),
            "pearson": float(functional.pearson_corrcoef(*floats)),
            "spearman": float(functional.spearman_corrcoef(*floats)),
            "mae": float(functional.mean_absolute_error(*floats)),
            "rmse": float(functional.mean_squared_error(*floats, squared=False)),
            "exact_match": float(squad["exact_match"]) / 100,
            "f1": float(squad["f1"]) / 100,
        },
        rel=1e-5,
    )


@pytest.mark.slow
def test_rouge_l_of_a_longest_common_subsequence() -> None:
    pytest.importorskip("torchmetrics")

    found = judge_texts(["the cat sat here", "x"], ["the big cat sat", "x"])

    # first: "the cat sat", 3 of 4 words and 4
    assert found == pytest.approx({"exact_match": 0.5, "rouge_l": (0.75 + 1) / 2})

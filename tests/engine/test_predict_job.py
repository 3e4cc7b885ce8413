"""Predictions of files: every row is answered, and a job that was stopped goes on."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_tokenizer
from weldlm.data.columns import Columns
from weldlm.heads import SequenceClassifier, TokenClassifier
from weldlm.job_output import JobCounts, JobFiles
from weldlm.packing import PackedBatch
from weldlm.predict_job import Predictor, load_predictor, predict_stream, run_predict_job
from weldlm.tasks import TaskRecord
from weldlm.weights import save_pretrained

TOKENIZER = tiny_tokenizer()
TEXTS = ["the film is fine", "we stay in Rome", "the meal", "is the room dull ?", "great"]


def predictor(**options: Any) -> Predictor:
    torch.manual_seed(0)
    config = tiny_config("bert-base", vocab_size=TOKENIZER.vocab_size, labels=("a", "b"))
    record = TaskRecord(task="classify", too_long="error", columns=Columns(("text",), "label"))
    return Predictor(
        model=SequenceClassifier(config).eval(),
        tokenizer=TOKENIZER,
        **{"record": record, "batch_size": 2, **options},
    )


def job(folder: Path, content: str | bytes, name: str = "in.txt") -> JobFiles:
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return JobFiles(folder / name, folder / "out.jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(name="expected")
def expected_rows(tmp_path: Path) -> list[dict[str, Any]]:
    """What a job without trouble says of the texts."""
    folder = tmp_path / "expected"
    folder.mkdir()
    files = job(folder, "\n".join(TEXTS))
    run_predict_job(predictor(), files)
    return read(files.output)


def test_predictions_equal_those_of_the_model(expected: list[dict[str, Any]]) -> None:
    model = predictor().model
    assert isinstance(model, SequenceClassifier)
    with torch.no_grad():
        batch = PackedBatch.from_sequences([TOKENIZER.encode(text) for text in TEXTS])
        confidence, place = model.logits(batch).softmax(dim=1).max(dim=1)

    assert [row["index"] for row in expected] == [0, 1, 2, 3, 4]
    assert [row["label"] for row in expected] == ["ab"[index] for index in place]
    assert [row["confidence"] for row in expected] == pytest.approx(confidence.tolist(), abs=2e-6)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)),
        ("in.csv", "label,text\n" + "".join(f"?,{text}\n" for text in TEXTS)),
    ],
)
def test_the_columns_are_those_that_were_learned(
    tmp_path: Path, expected: list[dict[str, Any]], name: str, content: str
) -> None:
    files = job(tmp_path, content, name)

    run_predict_job(predictor(), files)

    assert read(files.output) == expected


def test_a_bad_row_becomes_an_error_row(tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    lines = [json.dumps({"text": text}).encode() for text in TEXTS]
    lines[1], lines[3] = b'{"text": "\xff"}', json.dumps({"text": "the " * 99}).encode()
    files = job(tmp_path, b"\n".join(lines), "in.jsonl")

    counts = run_predict_job(predictor(), files)

    rows = read(files.output)
    assert counts == JobCounts(num_completed=3, num_failed=2)
    assert [rows[place]["label"] for place in (0, 2, 4)] == [
        expected[place]["label"] for place in (0, 2, 4)
    ]
    assert rows[1]["error"].startswith(f"{files.source}:2: the line is not UTF-8")
    assert rows[3]["error"].startswith(
        f"{files.source}:4: the row has 101 tokens; expected at most"
    )


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_job_that_was_stopped_goes_on_to_the_same_rows(
    tmp_path: Path, expected: list[dict[str, Any]], kept: int
) -> None:
    files = job(tmp_path, "\n".join(TEXTS))
    stop_after(kept, files)
    assert len(read(files.partial)) == kept

    run_predict_job(predictor(), files)

    assert read(files.output) == expected
    assert not files.record.exists()


def stop_after(num_rows: int, files: JobFiles) -> None:
    def report(done: int, _total: int) -> None:
        if done == num_rows:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_predict_job(predictor(), files, report=report)


def test_another_job_does_not_go_on_with_the_rows(tmp_path: Path) -> None:
    files = job(tmp_path, "\n".join(TEXTS))
    stop_after(2, files)

    with pytest.raises(FileExistsError, match="holds rows of a job with another batch_size"):
        run_predict_job(predictor(batch_size=3), files)


def test_a_stream_has_the_rows_of_a_job(expected: list[dict[str, Any]]) -> None:
    source = BytesIO("\n".join(TEXTS).encode())

    assert list(predict_stream(predictor(), source, "stdin", "tsv")) == expected


def test_the_task_of_a_folder_without_one_is_that_of_its_head(tmp_path: Path) -> None:
    config = tiny_config("bert-base", vocab_size=TOKENIZER.vocab_size, labels=("B-place", "O"))
    save_pretrained(TokenClassifier(config), tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    files = job(tmp_path, "in O\nRome B-place\n", "in.conll")

    run_predict_job(load_predictor(tmp_path), files)

    (row,) = read(files.output)
    assert row["words"] == ["in", "Rome"]
    assert len(row["labels"]) == len(row["confidences"]) == 2


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "in.csv",
            "premise,hypothesis\na,b\n",
            "has 2 text columns, premise, hypothesis; expected 1",
        ),
        ("in.jsonl", '{"x": "a"}\n', "none of the columns x is known to hold texts"),
        ("in.txt", "", "is empty; expected at least one row"),
        ("in.pdf", "a", "is of no known format"),
    ],
)
def test_a_file_without_texts_is_refused_and_leaves_nothing(
    tmp_path: Path, name: str, content: str, problem: str
) -> None:
    files = job(tmp_path, content, name)

    with pytest.raises(ValueError, match=r"expected|known") as caught:
        run_predict_job(predictor(), files)

    assert problem in str(caught.value)
    assert not files.output.exists()
    assert not files.partial.exists()

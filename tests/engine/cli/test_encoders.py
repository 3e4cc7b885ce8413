"""`weldlm embed`, `classify` and `fill-mask` against the models called one text at a time."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_tokenizer
from weldlm import encoder_job
from weldlm.cli import main
from weldlm.cli.model_folder import keep_model
from weldlm.encoder_answers import classify_rows
from weldlm.encoder_job import EncoderJob, run_encoder_job
from weldlm.heads import MaskedLM, Model, SentenceEmbedder, SequenceClassifier
from weldlm.job_output import JobCounts, JobFiles
from weldlm.packing import PackedBatch

TOKENIZER = tiny_tokenizer()
TEXTS = ["the film is great", "dull", "where is the room in Rome ? the view is lovely ."]
LABELS = ("bad", "good", "neither")


def tiny_encoder(head: type[Model]) -> Model:
    torch.manual_seed(0)
    model = head(tiny_config("bert-tiny", vocab_size=TOKENIZER.vocab_size, labels=LABELS))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def command(folder: Path, name: str, head: type[Model], output: str, *more: str) -> int:
    keep_model(tiny_encoder(head), TOKENIZER, folder / "model")
    options = ["--model", str(folder / "model"), "-i", str(folder / "in.txt")]
    with pytest.raises(SystemExit) as exit_:
        main([name, *options, "-o", str(folder / output), *more])
    return int(exit_.value.code or 0)


def write(folder: Path, *texts: str) -> None:
    (folder / "in.txt").write_text("".join(f"{text}\n" for text in texts))


def read(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(rows, key=lambda row: row["index"])


def alone(text: str) -> PackedBatch:
    return PackedBatch.from_sequences([TOKENIZER.encode(text)])


@torch.no_grad()
def embeddings() -> np.ndarray[Any, Any]:
    model = tiny_encoder(SentenceEmbedder)
    return torch.cat([model(alone(text), pooling="first") for text in TEXTS]).numpy()


def test_embeddings_are_those_of_each_text_alone(tmp_path: Path) -> None:
    write(tmp_path, TEXTS[0], "", *TEXTS[1:])
    options = ["--pooling", "first", "--max-batch-tokens", "12"]

    code = command(tmp_path, "embed", SentenceEmbedder, "out.jsonl", *options)

    rows = read(tmp_path / "out.jsonl")
    found = [row["embedding"] for row in rows if "error" not in row]
    assert code == 3
    assert rows[1] == {"index": 1, "error": "the text is empty; expected at least one character"}
    np.testing.assert_allclose(found, embeddings(), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "head", "field"),
    [
        ("embed", SentenceEmbedder, "embedding"),
        ("classify", SequenceClassifier, "probabilities"),
    ],
)
def test_quantized_encoders_answer_nearly_the_same(
    tmp_path: Path, name: str, head: type[Model], field: str
) -> None:
    write(tmp_path, *TEXTS)

    assert command(tmp_path, name, head, "plain.jsonl") == 0
    assert command(tmp_path, name, head, "out.jsonl", "--quantize", "int8") == 0

    plain, found = (read(tmp_path / file) for file in ("plain.jsonl", "out.jsonl"))
    numbers = [
        [list(row[field].values()) if isinstance(row[field], dict) else row[field] for row in rows]
        for rows in (plain, found)
    ]
    # activations of 8 bits are off by about 1 %
    np.testing.assert_allclose(numbers[1], numbers[0], atol=0.03)
    assert numbers[0] != numbers[1]


def test_embeddings_go_to_an_array_with_nan_for_bad_rows(tmp_path: Path) -> None:
    write(tmp_path, *TEXTS, "the " * 99)

    code = command(tmp_path, "embed", SentenceEmbedder, "out.npy", "--pooling", "first")

    array = np.load(tmp_path / "out.npy")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert code == 3
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[:3], embeddings(), atol=1e-6)
    assert np.isnan(array[3]).all()
    assert names == ["in.txt", "model", "out.npy", "out.npy.errors.jsonl"]
    assert "101 tokens; expected at most" in read(tmp_path / "out.npy.errors.jsonl")[0]["error"]


def test_the_pooling_is_what_the_folder_says(tmp_path: Path) -> None:
    write(tmp_path, *TEXTS)
    (tmp_path / "model").mkdir()
    keep_model(tiny_encoder(SentenceEmbedder), TOKENIZER, tmp_path / "model")
    (tmp_path / "model" / "1_Pooling").mkdir()
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    files = ["-i", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.npy")]

    with pytest.raises(SystemExit):
        main(["embed", "--model", str(tmp_path / "model"), *files])

    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), embeddings(), atol=1e-6)


def test_labels_have_the_probabilities_of_the_model(tmp_path: Path) -> None:
    write(tmp_path, *TEXTS)

    code = command(tmp_path, "classify", SequenceClassifier, "out.jsonl")

    model = tiny_encoder(SequenceClassifier)
    assert isinstance(model, SequenceClassifier)
    with torch.no_grad():
        expected = torch.cat([model.logits(alone(text)) for text in TEXTS]).softmax(dim=-1)
    rows = read(tmp_path / "out.jsonl")
    assert code == 0
    found = [[row["probabilities"][label] for label in LABELS] for row in rows]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert [row["label"] for row in rows] == [LABELS[best] for best in expected.argmax(dim=-1)]


def test_masks_are_filled_by_the_most_probable_tokens(tmp_path: Path) -> None:
    write(tmp_path, "the [MASK] is [MASK]", "no mask", "[MASK]")

    code = command(tmp_path, "fill-mask", MaskedLM, "out.jsonl", "--top-k", "3")

    model, mask_id = tiny_encoder(MaskedLM), TOKENIZER.special_tokens["[MASK]"]
    assert isinstance(model, MaskedLM)
    ids = TOKENIZER.encode("the [MASK] is [MASK]", allowed_special=["[MASK]"])
    with torch.no_grad():
        scores = model.logits(PackedBatch.from_sequences([ids])).softmax(dim=-1)
    places = [place for place, token_id in enumerate(ids) if token_id == mask_id]
    first, bad, single = read(tmp_path / "out.jsonl")
    assert code == 3
    assert "the text has no mask; expected [MASK] in it" in bad["error"]
    assert len(single["masks"]) == 1
    for mask, place in zip(first["masks"], places, strict=True):
        best = scores[place].topk(3)
        assert [guess["id"] for guess in mask] == best.indices.tolist()
        np.testing.assert_allclose([guess["probability"] for guess in mask], best.values, atol=1e-6)
    best_ids = iter(scores[places].argmax(dim=-1).tolist())
    filled = [next(best_ids) if token_id == mask_id else token_id for token_id in ids]
    assert first["text"] == TOKENIZER.decode(filled, skip_special_tokens=True)


def test_a_job_that_was_stopped_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_job, "_BLOCK", 4)
    write(tmp_path, *(TEXTS * 4))
    model = tiny_encoder(SequenceClassifier)
    assert isinstance(model, SequenceClassifier)
    job = EncoderJob(
        model=model,
        tokenizer=TOKENIZER,
        settings={"task": "classify"},
        answer=lambda rows: classify_rows(model, rows, max_batch_tokens=20),
    )

    def stop(done: int, _all: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    files = JobFiles(tmp_path / "in.txt", tmp_path / "out.jsonl")
    with pytest.raises(KeyboardInterrupt):
        run_encoder_job(job, files, report=stop)
    counts = run_encoder_job(job, files)
    whole = JobFiles(tmp_path / "in.txt", tmp_path / "whole.jsonl")
    run_encoder_job(job, whole)

    assert counts == JobCounts(num_completed=12, num_failed=0)
    assert files.output.read_text() == whole.output.read_text()


def test_texts_come_from_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_model(tiny_encoder(SequenceClassifier), TOKENIZER, tmp_path / "model")
    lines = b'{"text": "dull"}\n{"text": 3}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    files = ["-i", "-", "-o", str(tmp_path / "out.jsonl")]

    with pytest.raises(SystemExit) as exit_:
        main(["classify", "--model", str(tmp_path / "model"), *files])

    rows = read(tmp_path / "out.jsonl")
    assert exit_.value.code == 3
    assert rows[0]["label"] in LABELS
    assert 'no text under "text"' in rows[1]["error"]
    assert "1 done, 1 failed" in capsys.readouterr().err


def test_a_model_without_a_classifier_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, *TEXTS)

    assert command(tmp_path, "classify", MaskedLM, "out.jsonl") == 2
    assert "expected one of sequence_classification" in capsys.readouterr().err

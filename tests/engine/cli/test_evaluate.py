"""`weldlm evaluate` and `weldlm bias`: figures with intervals, and two models side by side."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.test_scoring import TEXTS, letters
from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_rows, tiny_tokenizer
from weldlm.cli import main
from weldlm.heads import CausalLM, MaskedLM, SequenceClassifier
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained, save_pretrained

WORDS = " ".join(TEXTS)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def figures(path: Path) -> Any:
    return json.loads(path.read_text())


def decoder(folder: Path, seed: int = 0) -> Path:
    tokenizer = letters()
    torch.manual_seed(seed)
    save_pretrained(CausalLM(tiny_config(vocab_size=tokenizer.vocab_size)), folder)
    tokenizer.save_pretrained(folder)
    return folder


def encoder(folder: Path, head: type[MaskedLM] | type[SequenceClassifier]) -> Path:
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = tiny_config(
        "bert-base", vocab_size=tokenizer.vocab_size, labels=("negative", "positive")
    )
    save_pretrained(head(config), folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_text_gives_perplexity_and_bits(tmp_path: Path) -> None:
    model, text = decoder(tmp_path / "model"), tmp_path / "text.txt"
    text.write_text(WORDS)

    code = run("evaluate", model, "--text", text, "-o", tmp_path / "out.json")

    tokenizer = letters()
    ids = tokenizer.encode_ordinary(WORDS)
    batch = PackedBatch.from_sequences([[tokenizer.eos_id or 0, *ids[:-1]]])
    with torch.no_grad():
        scores = load_pretrained(model, CausalLM).logits(batch).double().log_softmax(dim=-1)
    nats = -float(scores[range(len(ids)), ids].sum())
    found = figures(tmp_path / "out.json")
    assert code == 0
    assert found["figures"]["perplexity"]["value"] == pytest.approx(math.exp(nats / len(ids)))
    bits = nats / math.log(2) / len(WORDS)
    assert found["figures"]["bits_per_byte"]["value"] == pytest.approx(bits)
    assert found["tokens"] == len(ids)


def test_two_models_are_compared_on_the_same_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = decoder(tmp_path / "a"), decoder(tmp_path / "b", seed=1)
    lines = [json.dumps({"text": " ".join(TEXTS[i % 3 :])}) for i in range(24)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))

    code = run(
        "evaluate", first, "--against", second, "--text", tmp_path / "texts.jsonl",
        "-o", tmp_path / "out.json",
    )  # fmt: skip

    found = figures(tmp_path / "out.json")
    parts = [found[key]["bits_per_byte"]["value"] for key in ("figures", "against", "difference")]
    assert code == 0
    assert parts[2] == pytest.approx(parts[0] - parts[1])
    assert 0 < found["difference"]["bits_per_byte"]["p_value"] <= 1
    assert "difference, first less second" in capsys.readouterr().out


def test_one_document_is_compared_by_its_parts(tmp_path: Path) -> None:
    first, second = decoder(tmp_path / "a"), decoder(tmp_path / "b", seed=1)
    (tmp_path / "text.txt").write_text(" ".join(TEXTS) * 40)

    options = ("--text", tmp_path / "text.txt", "-o", tmp_path / "out.json")
    code = run("evaluate", first, "--against", second, *options)

    found = figures(tmp_path / "out.json")["difference"]["bits_per_byte"]
    assert code == 0
    assert found["low"] < found["value"] < found["high"]


def test_encoder_is_judged_by_hidden_tokens(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the film is fine\n")

    model = encoder(tmp_path / "model", MaskedLM)
    code = run("evaluate", model, "--text", tmp_path / "text.txt", "-o", tmp_path / "out.json")

    assert code == 0
    assert figures(tmp_path / "out.json")["tokens"] == 4


def test_choices_are_answered_by_likelihood(tmp_path: Path) -> None:
    model = decoder(tmp_path / "model")
    rows = [
        {"prompt": "the film", "choices": [" is qzqzqz", " is"], "answer": 1},
        {"prompt": "we stay", "choices": [" in", " in qzqzqz"], "answer": " in"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))

    code = run("evaluate", model, "--choices", tmp_path / "rows.jsonl", "-o", tmp_path / "out.json")

    assert code == 0
    # near to equal weights pay by the token
    assert figures(tmp_path / "out.json")["figures"]["accuracy"]["value"] == 1.0


def test_labelled_rows_give_the_figures_of_their_task(tmp_path: Path) -> None:
    model = encoder(tmp_path / "model", SequenceClassifier)
    rows = tiny_rows(tmp_path, "sentiment")
    files = ("--plot", tmp_path / "plot.svg", "-o", tmp_path / "out.json")

    code = run("evaluate", model, "--rows", rows, "--on-error", "skip", *files)

    found = figures(tmp_path / "out.json")
    accuracy = found["figures"]["accuracy"]
    assert code == 0
    assert found["num_rows"] == 120
    assert 0.3 < accuracy["low"] < accuracy["value"] < accuracy["high"] < 0.7
    assert 0 <= found["expected_calibration_error"] <= 1
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")


def test_bias_is_written_into_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = decoder(tmp_path / "model")

    code = run("bias", model, "--card", "-o", tmp_path / "out.json")

    out = capsys.readouterr().out
    shares = figures(tmp_path / "out.json")["shares"]
    assert code == 0
    assert f"{shares['all']['value']:.3f}" in out
    assert "## Bias: built-in templates" in (model / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "MODEL"), "give one of --text, --choices and --rows"),
        (("evaluate", "MODEL", "--text", "EMPTY"), "the text is empty"),
        (("evaluate", "MODEL", "--text", "none.txt"), "does not exist"),
        (("evaluate", "MODEL", "--text", "TEXT", "--stride", 0), "--stride is 0"),
        (("evaluate", "MODEL", "--text", "TEXT", "--plot", "a.svg"), "--plot is of --rows"),
        (("evaluate", "MODEL", "--choices", "TEXT"), "is not valid JSON"),
        (("evaluate", "MODEL", "--choices", "EMPTY"), "is empty; expected lines"),
        (("evaluate", "none", "--text", "TEXT"), "none"),
        (("bias", "MODEL", "--data", "TEXT"), "is no set that is known"),
        (("bias", "none.gguf", "--card"), "--card is of a model's folder"),
    ],
)
def test_wrong_requests_are_one_line(
    arguments: tuple[object, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = {"MODEL": tmp_path / "model", "TEXT": tmp_path / "a.txt", "EMPTY": tmp_path / "b.txt"}
    decoder(paths["MODEL"])
    paths["TEXT"].write_text("the film\n")
    paths["EMPTY"].write_text("")

    code = run(*(paths.get(str(argument), argument) for argument in arguments))

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1

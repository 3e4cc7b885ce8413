"""`weldlm inspect`: the files that it writes, and what it says of bad options."""

import json
from pathlib import Path

import pytest
import torch

from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_tasks import tiny_tokenizer
from weldlm.cli import main
from weldlm.cli.model_folder import keep_model
from weldlm.heads import CausalLM
from weldlm.inspect import Sample, attention_maps
from weldlm.weights import load_pretrained


@pytest.fixture(scope="module", name="folder")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("model"), tiny_tokenizer("bpe")
    torch.manual_seed(0)
    model = CausalLM(tiny_config("llama-tiny", vocab_size=tokenizer.vocab_size))
    keep_model(model, tokenizer, folder / "tiny")
    return folder / "tiny"


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["inspect", *map(str, arguments)])
    return int(exit_.value.code or 0)


def test_every_ending_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    names = [tmp_path / f"seen.{ending}" for ending in ("html", "json", "png")]
    outputs = [part for name in names for part in ("-o", name)]

    code = run(folder, "--text", "the film is great", "--num-steps", "4", *outputs)

    record = json.loads(names[1].read_text())
    model = load_pretrained(folder).eval()
    expected = attention_maps(model, Sample(torch.tensor(record["ids"])))["self"]
    assert code == 0
    assert capsys.readouterr().out.split() == [str(name) for name in names]
    assert names[0].read_text().startswith("<!doctype html>")
    assert names[2].read_bytes().startswith(b"\x89PNG")
    assert record["model"]["name"] == "tiny"
    torch.testing.assert_close(
        torch.tensor(record["attention"]["self"]), expected, rtol=1e-5, atol=1e-6
    )


def test_only_the_views_that_were_asked_for(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "seen.json"

    code = run(folder, "--text", "the film", "--what", "lens, neighbors", "-o", output)

    record = json.loads(output.read_text())
    assert code == 0
    assert record["lens"]["rows"] == record["tokens"]
    assert len(record["neighbors"]) == len(set(record["ids"]))
    assert record["attention"] is record["attributions"] is record["ablation"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "seen.txt"], "output is seen.txt; expected a name that ends in .html, .json"),
        (["-o", "none/seen.html"], "none does not exist; make the folder first"),
        (["-o", "x.html", "--what", "lense"], "--what has 'lense'; expected any of attention"),
        (["-o", "x.html", "--position", "99"], "--position has 99; expected"),
        (["-o", "x.html", "--max-length", "2"], "expected at most --max-length 2"),
        (["-o", "x.html", "--target-text", "a"], "--target-text was given to a model with"),
        ([], "Missing option '-o' / '--output'"),
    ],
)
def test_bad_options_are_named_in_one_line(
    folder: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    code = run(folder, "--text", "the film is great", *options)

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())

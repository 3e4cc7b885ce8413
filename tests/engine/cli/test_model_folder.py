"""A model folder is whole, and readable by whom the umask lets."""

from pathlib import Path

import pytest
import torch

from tests.engine.tiny_models import tiny_model
from weldlm.cli.model_folder import default_device, draw_curve, keep_model, load_model
from weldlm.tokenizer import Tokenizer

SIZE = 262


@pytest.fixture(scope="module", name="tokenizer")
def learned() -> Tokenizer:
    return Tokenizer.train(["some text " * 50], SIZE)


def test_what_is_kept_is_loaded(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = tiny_model(vocab_size=SIZE)

    keep_model(model, tokenizer, tmp_path / "model")
    loaded, read = load_model(tmp_path / "model", "cpu", None)

    assert torch.equal(loaded.head_weight, model.head_weight)
    assert read.encode("some text") == tokenizer.encode("some text")


def test_every_file_has_the_mode_of_the_umask(tmp_path: Path, tokenizer: Tokenizer) -> None:
    keep_model(tiny_model(vocab_size=SIZE), tokenizer, tmp_path / "model")

    plain = tmp_path / "plain"
    plain.touch()
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert modes == dict.fromkeys(
        ("config.json", "model.safetensors", "tokenizer.json"), plain.stat().st_mode
    )


def test_a_folder_that_cannot_be_finished_leaves_the_old_one(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_path: Path) -> None:
        raise OSError("full")

    keep_model(tiny_model(vocab_size=SIZE), tokenizer, tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    monkeypatch.setattr(tokenizer, "save", full)

    with pytest.raises(OSError, match="full"):
        keep_model(tiny_model("llama-tiny", vocab_size=SIZE), tokenizer, tmp_path / "model")

    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("tpu", "device 'tpu' is not available here; use cpu"),
        ("meta", "device is 'meta'; expected cpu or cuda"),
        ("", "device '' is not available here; use cpu"),
    ],
)
def test_a_device_that_computes_nothing_is_refused(device: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        default_device(device)


def test_a_run_without_losses_has_no_curve_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").touch()

    draw_curve(tmp_path)

    assert capsys.readouterr().err.count("loss.svg is not drawn: ") == 1
    assert not (tmp_path / "loss.svg").exists()

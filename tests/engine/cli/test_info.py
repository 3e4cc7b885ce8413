"""`weldlm info`: the sizes of models of every format, against the models themselves."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.gguf_files import write_gguf
from tests.engine.test_llama2c import exported, theirs_of
from weldlm.cache import KVCache
from weldlm.cli import main
from weldlm.weights import load_pretrained

transformers = pytest.importorskip("transformers")

FORMATS = pytest.mark.parametrize("form", ["Hugging Face", "GGUF", "llama2.c"])


@pytest.fixture(name="folder")
def model_folder(form: str, tmp_path: Path) -> Path:
    theirs = theirs_of()
    if form == "GGUF":
        write_gguf(tmp_path / "tiny.gguf", theirs)
    elif form == "llama2.c":
        (tmp_path / "tiny.bin").write_bytes(exported(theirs))
    else:
        theirs.save_pretrained(tmp_path)
    return tmp_path


def info(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["info", str(path), *options])
    assert exit_.value.code == 0
    return capsys.readouterr().out


@FORMATS
def test_sizes_are_those_of_the_loaded_model(
    folder: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(info(capsys, folder, "--json"))

    model = load_pretrained(folder)
    num_parameters = sum(weight.numel() for weight in model.parameters())
    cache = KVCache(model.config, 5, 2, dtype=torch.bfloat16, device="cpu")
    assert found["format"] == form
    assert found["num_parameters"] == num_parameters
    assert found["num_bytes"]["float32"] == sum(weight.nbytes for weight in model.parameters())
    assert found["num_bytes"]["bfloat16"] == 2 * num_parameters
    assert 10 * found["cache_bytes_per_token"]["bfloat16"] == cache.num_bytes
    assert (found["family"], found["head"], found["stored_as"]) == (
        "llama",
        "causal_lm",
        {"F32": num_parameters},
    )


@FORMATS
def test_the_table_says_what_people_ask(
    folder: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {line[:13].strip(): line[14:] for line in info(capsys, folder).splitlines()}

    assert lines["format"] == form
    assert lines["context"] == "64 tokens"
    assert lines["architecture"].startswith(
        "2 layers, width 32, 4 heads of 8 (2 for keys and values), gated MLP of 48 (silu)"
    )
    # 2 tensors of 2 layers, 2 heads of 8 numbers of 4 bytes; 64 times
    assert lines["float32"].split()[-4:] == ["256", "bytes", "16.0", "KiB"]


def test_weights_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs_of().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    expected = info(capsys, tmp_path)
    data = bytearray(path.read_bytes())
    data[-40_000:] = bytes(40_000)
    path.write_bytes(data)

    assert info(capsys, tmp_path) == expected


def test_an_encoder_has_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.BertConfig(vocab_size=97, num_hidden_layers=2, **sizes)
    theirs = transformers.BertForMaskedLM(config)
    theirs.save_pretrained(tmp_path)

    found = json.loads(info(capsys, tmp_path, "--json"))

    assert found["cache_bytes_per_token"] == {}
    assert (found["family"], found["head"]) == ("bert", "masked_lm")
    assert found["num_parameters"] == sum(weight.numel() for weight in theirs.parameters())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "config.json does not exist; expected a folder with config.json and weights"),
        ("{", "config.json is not valid JSON"),
        ("[]", "config.json holds no JSON object"),
        ('{"model_type": "mamba"}', "model_type 'mamba' is not supported; expected gpt2"),
    ],
    ids=["absent", "text", "list", "type"],
)
def test_what_is_no_model_is_refused_in_one_line(
    tmp_path: Path, text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)

    with pytest.raises(SystemExit) as exit_:
        main(["info", str(tmp_path)])

    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message in error
    assert error.count("\n") == 1

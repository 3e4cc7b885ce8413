"""`weldlm convert`: any model in, a folder of equal logits out, or nothing at all."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from tests.engine.gguf_files import write_gguf
from tests.engine.test_llama2c import exported, theirs_of, vocabulary
from tests.engine.their_models import ragged_ids, their_model
from weldlm.cli import main
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained

transformers = pytest.importorskip("transformers")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def logits(theirs: Any) -> torch.Tensor:
    with torch.no_grad():
        return theirs.eval()(ragged_ids(31)[0].unsqueeze(0)).logits  # type: ignore[no-any-return]


def their_copy(folder: Path, **options: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)


@pytest.fixture(name="source")
def llama2c_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.bin").write_bytes(exported(theirs_of(vocab_size=263)))
    (folder / "tok.bin").write_bytes(vocabulary(" ", "a", " a", "b"))
    return folder


def test_llama2c_becomes_a_folder_of_transformers(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"

    assert run("convert", source, target) == 0
    assert capsys.readouterr().out == f"{target}\n"
    expected = logits(theirs_of(vocab_size=263))
    torch.testing.assert_close(logits(their_copy(target)), expected, rtol=0, atol=1e-5)
    text = "a bab \u00fc"
    ids = Tokenizer.from_pretrained(source).encode(text)
    assert transformers.AutoTokenizer.from_pretrained(target)(text)["input_ids"] == list(ids)


def test_gguf_becomes_a_folder_of_transformers(tmp_path: Path) -> None:
    theirs, target = theirs_of(vocab_size=263), tmp_path / "target"
    write_gguf(tmp_path / "tiny.gguf", theirs, kind=Kind.F16)

    assert run("convert", tmp_path / "tiny.gguf", target, "--dtype", "float32") == 0

    expected = logits(their_copy(target))
    torch.testing.assert_close(logits(half_matrices(theirs)), expected, rtol=0, atol=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(target)
    messages = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "[Hi]"
    assert tokenizer("Hi")["input_ids"] == list(Tokenizer.from_pretrained(target).encode("Hi"))


def half_matrices(theirs: Any) -> Any:
    """With the roundings of F16 in a file, whose norms stay in fp32."""
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.copy_(weight.half() if weight.dim() > 1 else weight)
    return theirs


def test_a_folder_is_cast_and_split(tmp_path: Path) -> None:
    theirs_of().save_pretrained(tmp_path / "source")
    options = ("--dtype", "bfloat16", "--max-shard-size", "10KB")

    assert run("convert", tmp_path / "source", tmp_path / "target", *options) == 0

    index = json.loads((tmp_path / "target" / "model.safetensors.index.json").read_text())
    state = their_copy(tmp_path / "target", dtype="auto").state_dict()
    expected = theirs_of().state_dict()
    assert len(set(index["weight_map"].values())) > 2
    assert all(torch.equal(state[name], weight.bfloat16()) for name, weight in expected.items())


def test_the_head_of_the_source_stays(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    config = transformers.BertConfig(vocab_size=97, num_hidden_layers=2, num_labels=3, **sizes)
    theirs = their_model(config, "BertForSequenceClassification")
    theirs.save_pretrained(tmp_path / "source")

    assert run("convert", tmp_path / "source", tmp_path / "target") == 0

    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "target")
    torch.testing.assert_close(logits(again), logits(theirs), rtol=0, atol=1e-6)


def test_generation_settings_come_along(tmp_path: Path) -> None:
    theirs_of().save_pretrained(tmp_path / "source")
    (tmp_path / "source" / "generation_config.json").write_text('{"top_k": 7}')

    run("convert", tmp_path / "source", tmp_path / "target")

    assert (tmp_path / "target" / "generation_config.json").read_text() == '{"top_k": 7}'


def test_an_existing_target_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("convert", source, tmp_path) == 2
    assert "exists; remove it or choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place",
    ["weldlm.convert.save_pretrained", "weldlm.tokenizer.Tokenizer.save_pretrained"],
    ids=["weights", "tokenizer"],
)
def test_nothing_stays_of_a_conversion_that_fails(
    source: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, fail)

    assert run("convert", source, tmp_path / "target") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_numbers_too_large_for_float16_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = theirs_of()
    theirs.model.norm.weight.data[3] = 1e6
    theirs.save_pretrained(tmp_path / "source")

    code = run("convert", tmp_path / "source", tmp_path / "target", "--dtype", "float16")

    assert code == 2
    assert "transformer.norm.weight has numbers that float16 does not hold; choose bfloat16" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("size", ["5XB", "0", "-1GB", "GB", "1e9"])
def test_a_wrong_size_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("convert", "a", "b", f"--max-shard-size={size}") == 2
    assert "is no size; expected a number and a unit, such as 5GB" in capsys.readouterr().err


@pytest.mark.parametrize(("size", "num_files"), [("1GiB", 1), ("0.01MB", 10), ("10 kb", 10)])
def test_sizes_have_units(source: Path, tmp_path: Path, size: str, num_files: int) -> None:
    run("convert", source, tmp_path / "target", "--max-shard-size", size)

    assert len(list((tmp_path / "target").glob("*.safetensors"))) == num_files
    assert load_pretrained(tmp_path / "target").config == load_pretrained(source).config


def test_quantized_folder_generates_and_says_what_it_costs(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, text = tmp_path / "target", tmp_path / "text.txt"
    text.write_text("a b a ab" * 9)

    assert run("convert", source, target, "--quantize", "int8", "--text", text) == 0

    out, err = capsys.readouterr()
    assert out == f"{target}\n"
    found = re.search(r"perplexity of (\d+) tokens: ([\d.]+) -> ([\d.]+) ", err)
    assert found is not None
    assert float(found[3]) == pytest.approx(float(found[2]), rel=0.02)
    prompt = ("--prompt", "a b", "--max-tokens", 8)
    assert run("generate", "--model", target, *prompt) == 0
    loaded = capsys.readouterr().out
    assert run("generate", "--model", source, "--quantize", "int8", *prompt) == 0
    assert capsys.readouterr().out == loaded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--text", "README.md"), "--text goes with --quantize, --num-kv-heads and --window"),
        (("--quantize", "int8", "--dtype", "float16"), "is not rounded stays in fp32"),
    ],
    ids=["text", "dtype"],
)
def test_options_that_do_not_fit_a_quantized_folder_are_named(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "README.md").write_text("a")
    options = tuple(str(tmp_path / o) if o.endswith(".md") else o for o in options)

    assert run("convert", source, tmp_path / "target", *options) == 2

    assert message in capsys.readouterr().err
    assert not (tmp_path / "target").exists()


def test_what_is_quantized_is_not_quantized_again(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    assert run("convert", source, target, "--quantize", "int8") == 0
    capsys.readouterr()

    assert run("generate", "--model", target, "--quantize", "int4", "--prompt", "a") == 2

    assert "expected a model that is neither packed nor quantized" in capsys.readouterr().err

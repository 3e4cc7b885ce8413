"""Weights in files: shards, torch's .bin, damage, and how much memory loading takes."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.heads import CausalLM
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained, save_pretrained

BATCH = PackedBatch.from_sequences([torch.arange(5, 30)])


def logits(model: CausalLM) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(BATCH)


def test_shards_keep_to_their_size_and_load_with_equal_logits(tmp_path: Path) -> None:
    model = tiny_model("llama-tiny")

    save_pretrained(model, tmp_path, max_shard_bytes=20_000)

    sizes = [
        sum(tensor.nbytes for tensor in load_file(path).values())
        for path in tmp_path.glob("model-*-of-*.safetensors")
    ]
    assert len(sizes) > 2
    assert max(sizes) <= 20_000
    assert torch.equal(logits(load_pretrained(tmp_path)), logits(model))


def test_shards_load_in_transformers_with_equal_logits(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = tiny_model("llama-tiny")

    save_pretrained(model, tmp_path, max_shard_bytes=20_000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    with torch.no_grad():
        expected = theirs(BATCH.ids.unsqueeze(0)).logits[0]
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("first", "second"), [(20_000, 10**9), (10**9, 20_000)], ids=["one-file", "shards"]
)
def test_files_of_the_model_before_are_gone(tmp_path: Path, first: int, second: int) -> None:
    save_pretrained(tiny_model("gpt2-tiny"), tmp_path, max_shard_bytes=first)
    model = tiny_model("llama-tiny")

    save_pretrained(model, tmp_path, max_shard_bytes=second)

    assert torch.equal(logits(load_pretrained(tmp_path)), logits(model))
    has_shards = second < 10**9
    assert (tmp_path / "model.safetensors").exists() is not has_shards
    assert (tmp_path / "model.safetensors.index.json").exists() is has_shards


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_weights_are_written_in_the_dtype_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_model()

    save_pretrained(model, tmp_path, dtype=dtype)

    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        written = file.get_tensor("transformer.wte.weight")
    assert torch.equal(written, model.head_weight.to(dtype))
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(dtype)[6:]


def as_bin(folder: Path) -> Path:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def test_bin_loads_with_equal_weights(tmp_path: Path) -> None:
    model = tiny_model("llama-tiny")
    save_pretrained(model, tmp_path)
    as_bin(tmp_path)

    assert torch.equal(logits(load_pretrained(tmp_path)), logits(model))


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (exec, (f"open({str(self.path)!r}, 'w').close()", ""))


def test_code_in_a_bin_is_not_run(tmp_path: Path) -> None:
    save_pretrained(tiny_model(), tmp_path)
    torch.save({"weight": _Trap(tmp_path / "sprung")}, as_bin(tmp_path))

    with pytest.raises(ValueError, match="code in it is not run"):
        load_pretrained(tmp_path)

    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80\x04no pickle", pickle.dumps([1, 2])],
    ids=["empty", "broken", "other-pickle"],
)
def test_a_damaged_bin_is_named(tmp_path: Path, content: bytes) -> None:
    save_pretrained(tiny_model(), tmp_path)
    as_bin(tmp_path).write_bytes(content)

    with pytest.raises(ValueError, match=r"pytorch_model\.bin"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 8, (10**12).to_bytes(8, "little") + b"{}", b"\x02" + b"\0" * 7 + b"[]"],
    ids=["empty", "huge-header", "long-header", "no-object"],
)
def test_a_damaged_safetensors_header_is_named(tmp_path: Path, content: bytes) -> None:
    save_pretrained(tiny_model(), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_pretrained(tmp_path)


def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    save_pretrained(tiny_model(), tmp_path)
    index = {"weight_map": {"transformer.wte.weight": "../model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(ValueError, match="names files outside its folder"):
        load_pretrained(tmp_path)


def test_quantized_weights_are_refused_by_name(tmp_path: Path) -> None:
    save_pretrained(tiny_model(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["transformer.wte.weight"] = tensors["transformer.wte.weight"].to(torch.int8)
    save_file(tensors, tmp_path / "model.safetensors")

    with pytest.raises(ValueError, match=r"'transformer\.wte\.weight' is in torch\.int8; expected"):
        load_pretrained(tmp_path)


def test_loaded_weights_do_not_change_with_their_file(tmp_path: Path) -> None:
    save_pretrained(tiny_model(), tmp_path)
    loaded, path = load_pretrained(tmp_path), tmp_path / "model.safetensors"
    before = logits(loaded)

    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)

    assert torch.equal(logits(loaded), before)


MEASURE = """
import sys, torch
from pathlib import Path
from weldlm.weights import load_pretrained
def status(name):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition(name + ":")[2].split()[0])
load_pretrained(sys.argv[2])
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
model = load_pretrained(sys.argv[1])
print((status("VmHWM") - before) / sum(x.nbytes for x in model.parameters()))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts memory there")
def test_loading_takes_little_more_memory_than_the_weights(tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_layers": 12, "vocab_size": 9_000}
    save_pretrained(CausalLM(tiny_config("llama-tiny", **sizes)), tmp_path / "large")
    save_pretrained(tiny_model(), tmp_path / "small")

    result = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "large"), str(tmp_path / "small")],
        capture_output=True,
        text=True,
        check=True,
    )

    assert float(result.stdout) < 1.1

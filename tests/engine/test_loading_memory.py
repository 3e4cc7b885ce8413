"""Loading takes no more memory than the weights, and hardly more on the way."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from tests.engine.gguf_files import write_gguf
from tests.engine.test_llama2c import exported
from tests.engine.their_models import their_model
from tests.engine.tiny_models import tiny_config
from weldlm.heads import CausalLM
from weldlm.weights import save_pretrained

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocab_size": 4_000,
    "hidden_size": 768,
    "num_heads": 12,
    "num_kv_heads": 12,
    "head_dim": 64,
    "num_layers": 12,
    "intermediate_size": 2_048,
}
PROGRAM = r"""
import re, sys
import torch
from weldlm.weights import load_pretrained

def status_bytes(name):
    # not getrusage, whose peak a program inherits from the one that starts it
    text = open("/proc/self/status").read()
    return 1024 * int(re.search(name + r":\s+(\d+) kB", text)[1])

load_pretrained(sys.argv[1])  # a small model of the format: what is imported is there
before = status_bytes("VmRSS")
ballast = status_bytes("VmHWM") - before
model = load_pretrained(sys.argv[2], dtype=getattr(torch, sys.argv[3]))
print(status_bytes("VmHWM") - before, sum(weight.nbytes for weight in model.parameters()), ballast)
"""


def write(form: str, folder: Path, **sizes: Any) -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    if form in ("safetensors", "shards", "gpt2"):
        preset = "gpt2-tiny" if form == "gpt2" else "llama-tiny"
        shard = 50_000_000 if form == "shards" else 10**10
        save_pretrained(CausalLM(tiny_config(preset, **sizes)), folder, max_shard_bytes=shard)
        return folder
    config = transformers.LlamaConfig(
        vocab_size=sizes.get("vocab_size", 97),
        hidden_size=sizes.get("hidden_size", 32),
        num_hidden_layers=sizes.get("num_layers", 2),
        num_attention_heads=sizes.get("num_heads", 4),
        intermediate_size=sizes.get("intermediate_size", 64),
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    theirs = their_model(config, "LlamaForCausalLM")
    if form == "llama2.c":
        (folder / "model.bin").write_bytes(exported(theirs))
    else:
        write_gguf(folder / "model.gguf", theirs, kind=Kind[form])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        ("safetensors", "float32"),
        ("safetensors", "bfloat16"),
        ("shards", "float32"),
        ("gpt2", "float32"),
        ("llama2.c", "float32"),
        ("F32", "float32"),
        ("F16", "float16"),
        ("Q8_0", "float32"),
    ],
)
def test_peak_is_below_1_1_times_the_weights(tmp_path: Path, form: str, dtype: str) -> None:
    small, large = write(form, tmp_path / "small"), write(form, tmp_path / "large", **SIZES)

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small), str(large), dtype],
        capture_output=True,
        text=True,
        check=True,
    )

    taken, weights, ballast = map(int, done.stdout.split())
    assert weights > 150_000_000
    assert ballast < 0.02 * weights  # else an earlier peak would hide a later one
    assert taken <= 1.1 * weights

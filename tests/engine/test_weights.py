"""Model folders: equal to transformers both ways, and damaged ones refused by name."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.engine.tiny_models import tiny_model
from weldlm.packing import PackedBatch
from weldlm.weights import load_config, load_pretrained, save_pretrained

transformers = pytest.importorskip("transformers")

VARIANTS = [
    pytest.param("gpt2-tiny", {}, id="gpt2"),
    pytest.param("gpt2-tiny", {"activation": "relu", "intermediate_size": 40}, id="gpt2-relu"),
    pytest.param("llama-tiny", {}, id="llama-tied"),
    pytest.param("llama-tiny", {"tie_embeddings": False}, id="llama-untied"),
    pytest.param("llama-tiny", {"has_bias": True, "rotary_base": 500.0}, id="llama-bias"),
    pytest.param("llama-tiny", {"head_dim": 16}, id="llama-wide-heads"),
]


def ragged_batch() -> PackedBatch:
    generator = torch.Generator().manual_seed(1)
    return PackedBatch.from_sequences(
        [torch.randint(97, (length,), generator=generator) for length in (5, 17, 1, 31)]
    )


def their_logits(model: Any, batch: PackedBatch) -> torch.Tensor:
    sequences = batch.ids.split(batch.offsets.diff().tolist())
    return torch.cat([model(ids.unsqueeze(0)).logits[0] for ids in sequences])


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_saved_folder_loads_in_transformers_with_equal_logits(
    tmp_path: Path, name: str, changes: dict[str, object]
) -> None:
    model, batch = tiny_model(name, **changes), ragged_batch()

    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    with torch.no_grad():
        torch.testing.assert_close(
            model.logits(batch), their_logits(theirs, batch), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_their_folder_loads_with_equal_weights(
    tmp_path: Path, name: str, changes: dict[str, object]
) -> None:
    model = tiny_model(name, **changes)
    save_pretrained(model, tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")

    loaded = load_pretrained(tmp_path / "theirs")

    assert loaded.config == model.config
    assert all(
        torch.equal(weight, loaded.state_dict()[key]) for key, weight in model.state_dict().items()
    )


def gradients_in_our_names(theirs: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Takes their gradients through a saved folder, as if they were weights."""
    for weight in theirs.parameters():
        weight.data = weight.grad
    theirs.save_pretrained(folder)
    return load_pretrained(folder).state_dict()


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_loss_and_every_gradient_equal_transformers(
    tmp_path: Path, name: str, changes: dict[str, object]
) -> None:
    model = tiny_model(name, **changes)
    save_pretrained(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.randint(97, (19,), generator=torch.Generator().manual_seed(2))
    labels = torch.cat((ids[1:], torch.tensor([-100])))

    loss_sum, count = model(PackedBatch.from_sequences([ids]), labels)
    (loss_sum / count).backward()
    expected = theirs(ids.unsqueeze(0), labels=ids.unsqueeze(0)).loss
    expected.backward()

    torch.testing.assert_close(loss_sum / count, expected, rtol=0, atol=1e-6)
    gradients = gradients_in_our_names(theirs, tmp_path / "gradients")
    errors = {
        key: float((weight.grad - gradients[key]).norm() / gradients[key].norm())
        for key, weight in model.named_parameters()
        if weight.grad is not None
    }
    assert len(errors) == len(gradients)
    assert max(errors.values()) <= 1e-5


def test_round_trip_keeps_dtype(tmp_path: Path) -> None:
    model = tiny_model().to(torch.bfloat16)

    save_pretrained(model, tmp_path)

    assert load_pretrained(tmp_path).head_weight.dtype == torch.bfloat16
    assert load_pretrained(tmp_path, dtype=torch.float32).head_weight.dtype == torch.float32


def test_rotary_angles_stay_in_fp32() -> None:
    model = tiny_model("llama-tiny")
    table = model.transformer.table
    assert table is not None
    before = table.cos.clone()

    model.to(torch.bfloat16)

    assert torch.equal(table.cos, before)


def rewrite_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx = True is not",
        ),
        ({"activation_function": "mish"}, "activation 'mish' is not supported; expected one of"),
        ({"model_type": "mamba"}, "model_type 'mamba' is not supported; expected gpt2, llama"),
        ({"n_layer": 0}, "the field n_layer is 0; expected a whole number from 1 to"),
        ({"n_embd": 64}, "has shape .* expected .* from the configuration"),
        ({"n_layer": 3}, "lacks the tensor 'transformer.h.2.ln_1.weight'"),
        ({"n_layer": 1}, "holds the tensor 'transformer.h.1.attn.c_attn.bias', which gpt2 lacks"),
    ],
    ids=["maths", "activation", "type", "zero", "shape", "missing", "surplus"],
)
def test_unfitting_configuration_is_refused_by_name(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    save_pretrained(tiny_model(), tmp_path)
    rewrite_config(tmp_path, **changes)

    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)


def test_rope_scaling_is_refused(tmp_path: Path) -> None:
    save_pretrained(tiny_model("llama-tiny"), tmp_path)
    rewrite_config(tmp_path, rope_parameters={"rope_type": "yarn", "factor": 4.0})

    with pytest.raises(ValueError, match="rope_type 'yarn' is not supported"):
        load_config(tmp_path)


def test_loading_leaves_the_compiler_of_torch_alone(tmp_path: Path) -> None:
    save_pretrained(tiny_model("gpt2-tiny"), tmp_path)
    program = (
        "import sys, weldlm; weldlm.load_pretrained(sys.argv[1]); "
        "print('torch._dynamo' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"


def test_truncated_weights_are_named(tmp_path: Path) -> None:
    save_pretrained(tiny_model(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_pretrained(tmp_path)


def test_config_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")

    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        load_config(tmp_path)


def test_missing_field_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    with pytest.raises(ValueError, match="lacks the field 'hidden_size'"):
        load_config(tmp_path)


@pytest.mark.parametrize("name", ["", "config.json"], ids=["folder", "weights"])
def test_missing_file_is_named(tmp_path: Path, name: str) -> None:
    save_pretrained(tiny_model(), tmp_path)
    (tmp_path / ("model.safetensors" if name else "config.json")).unlink()

    with pytest.raises(FileNotFoundError, match="does not exist; expected"):
        load_pretrained(tmp_path)


def test_a_bare_transformer_with_its_constants_loads(tmp_path: Path) -> None:
    model = tiny_model()
    save_pretrained(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1)
    save_file(bare, tmp_path / "model.safetensors")

    loaded = load_pretrained(tmp_path)

    assert torch.equal(loaded.head_weight, model.head_weight)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama-tiny", {"window": 5}, "window is 5, which the llama format cannot hold"),
        ("gpt2-tiny", {"head_dim": 16}, "head_dim is 16, which the gpt2 format cannot hold"),
    ],
    ids=["window", "head-size"],
)
def test_what_a_format_cannot_hold_is_refused_by_name(
    tmp_path: Path, name: str, changes: dict[str, object], message: str
) -> None:
    model = tiny_model(name, **changes)

    with pytest.raises(ValueError, match=message):
        save_pretrained(model, tmp_path)


@pytest.mark.parametrize("name", ["float16", "torch.bfloat16", "float64"])
def test_dtype_may_be_named(tmp_path: Path, name: str) -> None:
    model, dtype = tiny_model(), getattr(torch, name.removeprefix("torch."))
    save_pretrained(model, tmp_path)

    loaded = load_pretrained(tmp_path, dtype=name)

    assert torch.equal(loaded.head_weight, model.head_weight.to(dtype))


def test_dtype_auto_is_that_of_the_file(tmp_path: Path) -> None:
    save_pretrained(tiny_model(), tmp_path, dtype="float16")

    assert load_pretrained(tmp_path, dtype="auto").head_weight.dtype == torch.float16


@pytest.mark.parametrize("dtype", ["fp32", torch.int64, 32], ids=str)
def test_dtype_of_no_weights_is_refused(tmp_path: Path, dtype: Any) -> None:
    save_pretrained(tiny_model(), tmp_path)

    with pytest.raises(ValueError, match=rf"dtype is {dtype!r}; expected 'float32', 'float16'"):
        load_pretrained(tmp_path, dtype=dtype)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cpu:x"])
def test_device_that_is_not_there_is_refused(tmp_path: Path, device: str) -> None:
    save_pretrained(tiny_model(), tmp_path)

    with pytest.raises(ValueError, match=rf"device '{device}' is not available here; use cpu"):
        load_pretrained(tmp_path, device=device)

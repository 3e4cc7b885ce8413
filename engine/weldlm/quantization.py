"""Models for inference with the linear layers of their blocks in 8 or 4 bits, or packed in fp32.

On a CPU the token embedding and a head over the vocabulary are in 8 bits then. Norms, positions and
the heads of classifiers stay as they are. Layers are replaced one after another, so that memory
holds one weight twice at most.
"""

from collections.abc import Callable, Iterator
from typing import Literal, get_args

from torch import Tensor, nn

from weldlm.heads import CausalLM, MaskedLM, Seq2SeqLM
from weldlm.layers import (
    Embedding,
    PackedEmbedding,
    PackedLinear,
    QuantizedLinear,
    QuantizedTensors,
)
from weldlm_kernels import (
    PackedQuantizedWeight,
    pack_quantized_weight,
    pack_weight,
    quantize_weight,
)

__all__ = ["WeightFormat", "pack_model", "quantize_model"]

WeightFormat = Literal["int8", "int4"]


def quantize_model(
    model: nn.Module, weight_format: WeightFormat, *, group_size: int = 32
) -> nn.Module:
    """Rounds the weights of a model, in place, for inference.

    On a CPU the weights are packed, and multiplied in integers by rounded activations
    (`weldlm_kernels.quantized_linear`). Elsewhere only linear layers in blocks are rounded.

    Args:
        model: one of ours.
        weight_format: int8 (a scale for each output channel) or int4 (a scale and a minimum for
            each group along the input channels) of the linear layers in blocks. The token embedding
            and the head over the vocabulary have 8 bits in both.
        group_size: of int4: 32, 64 or 128; a divisor of each layer's width.

    Returns:
        `model`.

    Raises:
        ValueError: the format is unknown, the model has no such layers, or a width is no multiple
            of `group_size`; layers before that one are quantized.
    """
    if weight_format not in get_args(WeightFormat):
        expected = " or ".join(get_args(WeightFormat))
        raise ValueError(f"weight_format is {weight_format!r}; expected {expected}")
    bits = 8 if weight_format == "int8" else 4

    def quantized(layer: nn.Linear) -> nn.Module:
        weight = quantize_weight(
            layer.weight, bits=bits, group_size=group_size, has_minimums=bits == 4
        )
        if layer.weight.device.type == "cpu":
            return PackedLinear(pack_quantized_weight(weight), layer.bias)
        return QuantizedLinear(QuantizedTensors(weight), layer.bias)

    _replace_layers(model, quantized)
    _pack_vocabulary(model)
    return model


def pack_model(model: nn.Module) -> nn.Module:
    """Packs the linear layers in the blocks of an fp32 model, in place, for inference on a CPU.

    Returns:
        `model`.

    Raises:
        ValueError: the model has no such layers, or they are not on the CPU.
        TypeError: a weight is not fp32.
    """
    return _replace_layers(model, lambda layer: PackedLinear(pack_weight(layer.weight), layer.bias))


def _replace_layers(model: nn.Module, replacement: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    names = [name for name, _ in _linear_layers(model)]
    if not names:
        raise ValueError(
            f"{type(model).__name__} has no plain linear layers in blocks; expected a model that "
            "is neither packed nor quantized, without adapters"
        )
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        try:
            model.set_submodule(name, replacement(layer))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
    return model


def _pack_vocabulary(model: nn.Module) -> None:
    """Rounds token embeddings, which stacks may share, and a head of its own to 8 bits."""
    packed: dict[int, PackedEmbedding] = {}
    for module in model.modules():
        if isinstance(module, Embedding) and isinstance(module.tokens, nn.Embedding):
            weight = module.tokens.weight
            if weight.device.type == "cpu":
                if id(weight) not in packed:
                    packed[id(weight)] = PackedEmbedding(_packed_8_bits(weight))
                module.tokens = packed[id(weight)]
    head = model.head if isinstance(model, CausalLM | MaskedLM | Seq2SeqLM) else None
    if isinstance(head, nn.Linear) and head.weight.device.type == "cpu":
        model.head = PackedLinear(_packed_8_bits(head.weight), None)


def _packed_8_bits(weight: Tensor) -> PackedQuantizedWeight:
    return pack_quantized_weight(quantize_weight(weight, bits=8))


def _linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "blocks." in name:
            yield name, module

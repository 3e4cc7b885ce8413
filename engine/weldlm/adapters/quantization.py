"""Linear layers of a model to 8 or 4 bits and back, under its adapters."""

from torch import Tensor, nn

from weldlm.adapters.places import adaptable_linear, places_of
from weldlm.heads import Model
from weldlm.layers import LoraLinear, QuantizedLinear, QuantizedTensors
from weldlm_kernels import quantize_weight

__all__ = ["dequantize_base", "quantize_base"]


def quantize_base(
    model: Model,
    *,
    bits: int,
    group_size: int = 128,
    has_minimums: bool = False,
    targets: tuple[str, ...] = ("all",),
) -> None:
    """Rounds the weights of linear layers to 8 or 4 bits, in place; they are frozen from then on.

    Args:
        model: adapters on the layers stay as they are, and train on.
        bits, group_size, has_minimums: as `weldlm_kernels.quantize_weight` takes them.
        targets: which layers, as in `LoraSettings`.

    Raises:
        ValueError: a target names no layer, a layer is quantized already or has a merged adapter,
            or its width is no multiple of `group_size`; layers before it are quantized.
    """
    for place in {place.module: place for place in places_of(model, targets)}.values():
        layer = adaptable_linear(model, place)
        if isinstance(layer.weight, QuantizedTensors):
            raise ValueError(
                f"{place.module} has {layer.weight.bits} bits already; expected a floating-point "
                "weight; call dequantize_base(model) first"
            )
        if not isinstance(layer.weight, Tensor):
            raise ValueError(
                f"{place.module} is packed for the CPU; expected a floating-point weight; load the "
                "model again"
            )
        if isinstance(layer, LoraLinear) and layer.merged:
            raise ValueError(f"{place.module} has a merged adapter; call unmerge_lora(model) first")
        try:
            weight = quantize_weight(
                layer.weight, bits=bits, group_size=group_size, has_minimums=has_minimums
            )
        except ValueError as error:
            raise ValueError(f"{place.module}: {error}") from error
        quantized = QuantizedTensors(weight)
        if isinstance(layer, LoraLinear):
            _set_weight(layer, quantized)
        else:
            model.set_submodule(place.module, QuantizedLinear(quantized, layer.bias))


def dequantize_base(model: Model) -> None:
    """Writes the weights that the integers stand for out in fp32, in place, still frozen."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLinear | QuantizedLinear):
            if not isinstance(module.weight, QuantizedTensors):
                continue
            weight = nn.Parameter(module.weight.dequantized(), requires_grad=False)
            layer = module if isinstance(module, LoraLinear) else LoraLinear(module)
            _set_weight(layer, weight)
            if layer is not module:
                model.set_submodule(name, layer.base())


def _set_weight(layer: LoraLinear, weight: Tensor | QuantizedTensors) -> None:
    """Replaces a parameter by a module or the other way round."""
    del layer.weight
    layer.weight = weight
    if layer.bias is not None:
        layer.bias.requires_grad_(False)

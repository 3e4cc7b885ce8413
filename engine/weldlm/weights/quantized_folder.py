"""Folders of quantized models, which weldlm alone reads.

config.json is that of the model, with quantization_config {"quant_method": "weldlm"}. Tensors have
our names: of a quantized layer NAME the fields of its QuantizedWeight, as NAME.weight.values,
NAME.weight.scales and NAME.weight.minimums. Scales and minimums of groups are fp16.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from weldlm.atomic_file import replace_text
from weldlm.heads import Model
from weldlm.layers import PackedEmbedding, PackedLinear, QuantizedLinear, QuantizedTensors
from weldlm.memory import require_memory
from weldlm.placement import require_device, weights_dtype
from weldlm.weights.model_json import QUANTIZATION, their_config
from weldlm.weights.model_path import StoredModel
from weldlm.weights.new_weights import build_without_weights, fill_shared
from weldlm.weights.tensor_files import DEFAULT_SHARD_BYTES, TensorFiles, TensorPlan, write_tensors
from weldlm_kernels import PackedQuantizedWeight, QuantizedWeight, pack_quantized_weight
from weldlm_kernels.quantized_linear.weight import GROUP_SIZES, dequantize

__all__ = ["load_quantized", "save_quantized"]

M = TypeVar("M", bound=Model)

_VALUES = ".weight.values"


def save_quantized(
    model: Model,
    folder: str | Path,
    *,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a folder that `load_pretrained` reads, without ever holding the plain weights.

    Args:
        model: from `quantize_model`.
        folder: made where it does not exist.
        max_shard_bytes: a larger model becomes several files with an index.
        report: called with the number of tensors written and of all tensors.

    Raises:
        OSError: it cannot be written.
        ValueError: no layer is quantized, or one is packed in fp32.
    """
    folder = Path(folder)
    plans = dict(_plans(model))
    if not any(name.endswith(_VALUES) for name in plans):
        raise ValueError("no layer is quantized; expected a model from quantize_model")
    config = {**their_config(model, torch.float32), "quantization_config": QUANTIZATION}
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder, plans, max_shard_bytes=max_shard_bytes, report=report)
    replace_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def load_quantized(
    stored: StoredModel, head: type[M], *, device: torch.device | str | int, dtype: Any
) -> M:
    """Reads such a folder; on a CPU quantized layers are packed one after another.

    Elsewhere the token embedding and the head are dequantized.

    Args:
        stored: the folder.
        head: what the model is for; weights of another head are left out.
        device: where the weights go.
        dtype: of the weights that are not quantized; as stored where None.

    Raises:
        ValueError: a tensor is missing, damaged or of another shape.
    """
    device, dtype = require_device(device), weights_dtype(dtype)
    files, path = stored.tensors, stored.path
    assert isinstance(files, TensorFiles)
    require_memory(files.num_bytes, f"{path}: loading its weights", advice="take a smaller model")
    model = build_without_weights(head, stored.config)
    for name in [name.removesuffix(_VALUES) for name in files.names if name.endswith(_VALUES)]:
        places = _places(model, name)
        if not places:
            continue
        layer = model.get_submodule(places[0])
        bias = files.read(f"{name}.bias").to(dtype) if f"{name}.bias" in files else None
        new = _filled(layer, name, _read_weight(files, name, layer, path), bias, device)
        for place in places:
            model.set_submodule(place, new)
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            state[name] = _read_plain(files, name, parameter, path).to(dtype, copy=True)
    fill_shared(model, state)
    model.load_state_dict(state, assign=True, strict=False)
    return model.to(device)


def _plans(model: Model) -> Iterator[tuple[str, TensorPlan]]:
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, QuantizedTensors):
            weight, name = module.weight, name.removesuffix(".weight")
        elif isinstance(module, PackedLinear | PackedEmbedding):
            if not isinstance(weight, PackedQuantizedWeight):
                raise ValueError(f"{name} is packed in fp32; expected a model from quantize_model")
        else:
            for part, tensor in module.named_parameters(recurse=False):
                yield f"{name}.{part}".lstrip("."), _plan(tensor)
            continue
        assert isinstance(weight, QuantizedWeight | PackedQuantizedWeight)
        yield from _plans_of_weight(f"{name}.weight", weight)
        if isinstance(module, PackedLinear) and module.bias is not None:
            yield f"{name}.bias", _plan(module.bias)


def _plans_of_weight(
    name: str, weight: QuantizedWeight | PackedQuantizedWeight
) -> Iterator[tuple[str, TensorPlan]]:
    plain = weight.unpack() if isinstance(weight, PackedQuantizedWeight) else weight
    of_groups = torch.float16 if plain.bits == 4 else torch.float32
    yield f"{name}.values", _plan(plain.values)
    yield f"{name}.scales", _plan(plain.scales.to(of_groups))
    if plain.minimums is not None:
        yield f"{name}.minimums", _plan(plain.minimums.to(of_groups))


def _plan(tensor: Tensor) -> TensorPlan:
    return TensorPlan(tensor.nbytes, lambda: tensor.detach().cpu().contiguous())


def _places(model: Model, name: str) -> list[str]:
    """Under which names the layer that is called `name` stands; none where the head lacks it."""
    modules = dict(model.named_modules(remove_duplicate=False))
    layer = modules.get(name)
    return [place for place, module in modules.items() if module is layer] if layer else []


def _read_weight(files: TensorFiles, name: str, layer: nn.Module, path: Path) -> QuantizedWeight:
    stem = f"{name}.weight"
    if not isinstance(layer, nn.Linear | nn.Embedding) or f"{stem}.scales" not in files:
        raise ValueError(f"{path}: {name} is no layer with scales; expected a model of weldlm's")
    num_channels, depth = layer.weight.shape
    values, scales = files.read_stored(f"{stem}.values"), files.read(f"{stem}.scales").float()
    minimums = f"{stem}.minimums"
    weight = QuantizedWeight(
        values=values.clone(),
        scales=scales,
        minimums=files.read(minimums).float() if minimums in files else None,
        bits=8 if values.dtype == torch.int8 else 4,
        group_size=0 if scales.dim() == 1 else depth // max(1, scales.shape[-1]),
    )
    is_known = (weight.bits, weight.group_size) == (8, 0) or (
        weight.bits == 4 and weight.group_size in GROUP_SIZES
    )
    groups = (num_channels, depth // weight.group_size) if weight.group_size else (num_channels,)
    shapes = (tuple(values.shape), tuple(scales.shape))
    expected = ((num_channels, depth * weight.bits // 8), groups)
    has_minimums = weight.minimums is None or tuple(weight.minimums.shape) == groups
    if not is_known or shapes != expected or not has_minimums:
        raise ValueError(
            f"{path}: {name} has values and scales of shapes {shapes[0]} and {shapes[1]}; expected "
            f"those of a weight ({num_channels}, {depth}); write the folder again"
        )
    return weight


def _read_plain(files: TensorFiles, name: str, parameter: Tensor, path: Path) -> Tensor:
    if name not in files or files.shape(name) != tuple(parameter.shape):
        found = f"in shape {files.shape(name)}" if name in files else "not at all"
        raise ValueError(
            f"{path} holds the tensor {name!r} {found}; expected shape {tuple(parameter.shape)}; "
            "write the folder again"
        )
    return files.read(name)


def _filled(
    layer: nn.Module, name: str, weight: QuantizedWeight, bias: Tensor | None, device: torch.device
) -> nn.Module:
    """What stands in the place of a layer; in fp32 outside of blocks where nothing packs it."""
    bias = None if bias is None else bias.clone()
    if device.type == "cpu":
        packed = pack_quantized_weight(weight)
        is_linear = isinstance(layer, nn.Linear)
        return PackedLinear(packed, bias) if is_linear else PackedEmbedding(packed)
    if "blocks." in name:
        return QuantizedLinear(QuantizedTensors(weight), bias)
    assert isinstance(layer, nn.Linear | nn.Embedding)
    parts = weight.values, weight.scales, weight.minimums, weight.group_size
    layer.weight = nn.Parameter(dequantize(*parts), requires_grad=False)
    return layer

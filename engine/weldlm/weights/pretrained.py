"""Models from and to folders: which tensors of theirs make up ours, read and written one by one."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, overload

import torch
from torch import Tensor

from weldlm.atomic_file import replace_text
from weldlm.families import FAMILIES, Family, Rule, split_sizes, tensor_rules
from weldlm.heads import CausalLM, Model
from weldlm.layers import LoraLinear, PackedEmbedding, PackedLinear, QuantizedTensors
from weldlm.memory import require_memory, require_table_memory
from weldlm.placement import require_device, weights_dtype
from weldlm.weights.model_json import head_format, their_config
from weldlm.weights.model_path import StoredModel, open_model
from weldlm.weights.new_weights import build_without_weights, draw_weight, fill_shared
from weldlm.weights.quantized_folder import load_quantized
from weldlm.weights.tensor_files import DEFAULT_SHARD_BYTES, TensorPlan, write_tensors
from weldlm.weights.tensor_source import TensorSource

__all__ = ["drawn_names", "load_pretrained", "load_stored", "save_config", "save_pretrained"]

_CONFIG = "config.json"

M = TypeVar("M", bound=Model)
Device = torch.device | str | int
Dtype = torch.dtype | str | None
Report = Callable[[int, int], None]


def save_pretrained(
    model: Model,
    folder: str | Path,
    *,
    dtype: Dtype = None,
    max_shard_bytes: int = DEFAULT_SHARD_BYTES,
    report: Report | None = None,
) -> None:
    """Writes a folder that `transformers` loads with equal logits.

    Args:
        model: a model with a head that its family has.
        folder: made where it does not exist.
        dtype: of the weights in the file; as they are where None.
        max_shard_bytes: a larger model becomes several files with an index.
        report: called with the number of tensors written and of all tensors.

    Raises:
        OSError: it cannot be written; a file that was there before is as it was.
        ValueError: their format has no such head for the model's family, or nothing that says what
            the model's adapters or quantized weights do.
    """
    folder, dtype = Path(folder), weights_dtype(dtype)
    _refuse_adapted(model)
    config = _config_text(model, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    plans = _plans(model, dtype)
    write_tensors(folder, plans, max_shard_bytes=max_shard_bytes, report=report)
    replace_text(folder / _CONFIG, config)


def save_config(model: Model, folder: Path) -> None:
    """Writes config.json alone, for weights that are kept elsewhere.

    Raises:
        OSError: it cannot be written.
        ValueError: their format has no such head for the model's family.
    """
    replace_text(folder / _CONFIG, _config_text(model, None))


@overload
def load_pretrained(
    path: str | Path,
    *,
    device: Device = ...,
    dtype: Dtype = ...,
    report: Report | None = ...,
) -> CausalLM: ...
@overload
def load_pretrained(
    path: str | Path,
    head: type[M],
    *,
    labels: Sequence[str] | None = ...,
    has_new_head: bool = ...,
    device: Device = ...,
    dtype: Dtype = ...,
    report: Report | None = ...,
) -> M: ...
def load_pretrained(
    path: str | Path,
    head: type[Model] = CausalLM,
    *,
    labels: Sequence[str] | None = None,
    has_new_head: bool = False,
    device: Device = "cpu",
    dtype: Dtype = None,
    report: Report | None = None,
) -> Model:
    """Reads a model. Tensors of heads other than `head` are left out.

    Args:
        path: a folder with config.json and model.safetensors, shards with their index, or torch's
            .bin files, from which nothing but tensors is taken; a folder of quantized weights from
            `weldlm convert --quantize`; a GGUF file or a folder with one;
            a .bin model of llama2.c or a folder with one.
        head: what the model is for.
        labels: names of a classifier's outputs; those of the folder where None.
        has_new_head: weights of the head that the folder lacks are drawn from torch's generator.
        device: where the weights go.
        dtype: of the weights, or its name; as stored where None, fp32 where they are quantized.
        report: called with the number of tensors read and of all tensors.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the configuration is not supported, a tensor is missing, surplus, damaged or
            of another shape, or the device or dtype is none that weights can have here.
    """
    return load_stored(
        open_model(path),
        head,
        labels=labels,
        has_new_head=has_new_head,
        device=device,
        dtype=dtype,
        report=report,
    )


def load_stored(
    stored: StoredModel,
    head: type[M],
    *,
    labels: Sequence[str] | None,
    has_new_head: bool,
    device: Device,
    dtype: Dtype,
    report: Report | None,
) -> M:
    """Reads a model of which headers have been read, as `load_pretrained` does."""
    if stored.is_quantized:
        return load_quantized(stored, head, device=device, dtype=dtype)
    device, dtype = require_device(device), weights_dtype(dtype)
    path, config, files = stored.path, stored.config, stored.tensors
    if labels is not None:
        config = dataclasses.replace(config, labels=tuple(labels))
    family, form = FAMILIES[config.family], head_format(config, head)
    dtype = dtype or files.dtype
    _check_zeros(files, family, path)
    if _has_own_head(files, family):
        config = dataclasses.replace(config, tie_embeddings=False)
    require_table_memory(config)
    model = build_without_weights(head, config)
    rules = dict(tensor_rules(config, family, form))
    drawn = drawn_names(rules, files) if has_new_head else []
    read = {name: rule for name, rule in rules.items() if name not in drawn}
    _check(model, read, files, family, path)
    _check_memory(model, path, dtype, device)
    state = {name: draw_weight(name, model.get_parameter(name)).to(device, dtype) for name in drawn}
    # the largest first, while the least of the others lies in memory beside it
    for name in sorted(read, key=lambda name: -model.get_parameter(name).numel()):
        shape = model.get_parameter(name).shape
        state[name] = _take(files, read[name], shape, device=device, dtype=dtype)
        if report is not None:
            report(len(state) - len(drawn), len(read))
    fill_shared(model, state)
    model.load_state_dict(state, assign=True)
    return model.to(device)


def _config_text(model: Model, dtype: torch.dtype | None) -> str:
    config = their_config(model, dtype or next(model.parameters()).dtype)
    return json.dumps(config, indent=2) + "\n"


def _refuse_adapted(model: Model) -> None:
    """Raises where a folder of weights would not give the model's outputs."""
    for name, module in model.named_modules():
        if isinstance(module, PackedEmbedding | PackedLinear):
            raise ValueError(
                f"{name} is packed for the CPU; expected plain weights; quantized ones are written "
                "by save_quantized(model, folder)"
            )
        if isinstance(module, QuantizedTensors):
            raise ValueError(
                f"{name} has {module.bits} bits, which the folder cannot hold; expected "
                "floating-point weights; call dequantize_base(model) first"
            )
        if isinstance(module, LoraLinear) and module.active and not module.merged:
            raise ValueError(
                f"{name} has the active adapter {next(iter(module.active))!r}, which the folder "
                "cannot hold; call merge_lora(model) first, or write save_adapter(model, folder)"
            )


def _check_memory(
    model: Model, path: Path, dtype: torch.dtype | None, device: torch.device
) -> None:
    num_weights = sum(weight.numel() for weight in model.parameters())
    require_memory(
        num_weights * (dtype or torch.float16).itemsize,  # where stored in fp32, even more
        f"{path}: loading {num_weights:,} weights",
        advice="take a smaller model, a narrower dtype or another device",
        device=device,
    )


def drawn_names(rules: dict[str, Rule], files: TensorSource) -> list[str]:
    """Tensors of the head of which the files hold nothing, in the order in which they are drawn."""
    return [
        ours
        for ours, rule in rules.items()
        if not ours.startswith(("transformer.", "encoder.", "decoder."))
        and not any(name in files for name in rule.theirs)
    ]


def _plans(model: Model, dtype: torch.dtype | None) -> dict[str, TensorPlan]:
    """Their tensors, each made from ours when its file is written."""
    config, state = model.config, model.state_dict()
    plans: dict[str, TensorPlan] = {}
    rules = tensor_rules(config, FAMILIES[config.family], head_format(config, type(model)))
    for ours, rule in rules:
        tensor = state[ours]
        parts = [tensor] if len(rule.theirs) == 1 else tensor.split(split_sizes(rule, config))
        for name, part in zip(rule.theirs, parts, strict=True):
            size = part.numel() * (dtype or part.dtype).itemsize
            plans[name] = TensorPlan(size, _maker(part, rule, dtype))
    return plans


def _maker(part: Tensor, rule: Rule, dtype: torch.dtype | None) -> Callable[[], Tensor]:
    def make() -> Tensor:
        tensor = part.detach().to(dtype)
        tensor = tensor.t() if rule.is_transposed else tensor
        return (tensor.unsqueeze(0) if rule.is_row else tensor).contiguous()

    return make


def _check_zeros(files: TensorSource, family: Family, path: Path) -> None:
    for name in family.zero:
        if name in files and files.read(name).count_nonzero():
            raise ValueError(f"{path}: the tensor {name!r} is not zero, which is not supported")


def _has_own_head(files: TensorSource, family: Family) -> bool:
    """Whether the file holds a head that differs from the embedding, whatever config.json says."""
    head = "lm_head.weight"
    if head not in files or family.tokens not in files:
        return False
    if files.shape(head) != files.shape(family.tokens):
        return False
    return not torch.equal(files.read(head), files.read(family.tokens))


def _check(
    model: Model, rules: dict[str, Rule], files: TensorSource, family: Family, path: Path
) -> None:
    """Whether the files hold what the model has and nothing else, before anything is read."""
    for ours, rule in rules.items():
        for name in rule.theirs:
            if name not in files:
                raise ValueError(
                    f"{path} lacks the tensor {name!r}; expected all that its configuration asks "
                    "for; get the weights again, or mend the configuration"
                )
        expected = tuple(model.get_parameter(ours).shape)
        shape = _joined_shape(rule, [files.shape(name) for name in rule.theirs])
        if shape != expected:
            raise ValueError(
                f"{path}: the tensor for {ours} has shape {shape}; expected {expected} from "
                "the configuration"
            )
    used = {name for rule in rules.values() for name in rule.theirs}
    surplus = [
        name
        for name in files.names
        if name not in used and not name.startswith(family.head_prefixes)
    ]
    if surplus:
        raise ValueError(
            f"{path} holds the tensor {min(surplus)!r}, which {model.config.family} lacks; "
            "expected none but those that its configuration asks for; mend the configuration"
        )


def _joined_shape(rule: Rule, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Of their tensors one below the other, as we keep them."""
    first, *_ = shapes
    if any(shape[1:] != first[1:] or not shape for shape in shapes):
        return first
    joined = (sum(shape[0] for shape in shapes), *first[1:])
    if rule.is_row:
        return (math.prod(joined),)
    return joined[::-1] if rule.is_transposed else joined


def _take(
    files: TensorSource,
    rule: Rule,
    shape: torch.Size,
    *,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Tensor:
    """A copy, which nothing that happens to the file can change."""
    if dtype is None:
        dtypes = [files.read(name).dtype for name in rule.theirs]
        dtype = functools.reduce(torch.promote_types, dtypes)
    # before anything is read: what is freed afterwards leaves no holes between the weights
    weight = torch.empty(shape, device=device, dtype=dtype)
    begin = 0
    for name in rule.theirs:
        part = files.read(name)
        part = part.flatten() if rule.is_row else part
        part = part.t() if rule.is_transposed else part
        rows = part.numel() // math.prod(shape[1:])
        weight[begin : begin + rows].view(part.shape).copy_(part)
        begin += rows
    return weight

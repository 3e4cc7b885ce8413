"""Model folders in Hugging Face's form: config.json and model.safetensors, both ways."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weldlm.atomic_file import replace_file, replace_text
from weldlm.config import ModelConfig
from weldlm.config_fields import check_fields
from weldlm.families import FAMILIES, Family, Rule
from weldlm.heads import CausalLM

__all__ = ["load_config", "load_pretrained", "save_pretrained"]

_HEAD = "lm_head.weight"


def save_pretrained(model: CausalLM, folder: str | Path) -> None:
    """Writes a folder that `transformers` loads with equal logits.

    Raises:
        OSError: it cannot be written; a file that was there before is as it was.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / "model.safetensors") as path:
        _write_tensors(model, path)
    text = json.dumps(_their_config(model.config, _dtype_name(model)), indent=2) + "\n"
    replace_text(folder / "config.json", text)


def load_config(folder: str | Path) -> ModelConfig:
    """Reads `config.json`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: an unsupported model type, a missing field, or a field with an unsupported
            value that would change the maths.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a model folder with config.json")
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    family = _family(theirs, path)
    for name, expected in family.required.items():
        if theirs.get(name, expected) != expected:
            raise ValueError(
                f"{path}: {name} = {theirs[name]!r} is not supported; expected {expected!r}"
            )
    try:
        check_fields(theirs)
        return family.read(theirs)
    except KeyError as error:
        raise ValueError(f"{path} lacks the field {error.args[0]!r}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def load_pretrained(
    folder: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> CausalLM:
    """Reads a model folder.

    Args:
        folder: holds config.json and model.safetensors, or shards with their index.
        device: where the weights go.
        dtype: of the weights; as stored where None.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the configuration is not supported, or a tensor is missing, surplus, damaged or
            of another shape.
    """
    folder = Path(folder)
    config = load_config(folder)
    family = FAMILIES[config.family]
    theirs = _read_tensors(folder, family)
    with torch.device("meta"):
        model = CausalLM(config)
    state = {name: _take(theirs, rule, folder) for name, rule in _rules(config, family)}
    theirs.pop(_HEAD, None)  # a tied head may be stored twice
    if theirs:
        raise ValueError(f"{folder} holds the tensor {min(theirs)!r}, which {config.family} lacks")
    _check_shapes(model, state, folder)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    return model.to(device)


def _family(theirs: Any, path: Path) -> Family:
    model_type = theirs.get("model_type") if isinstance(theirs, dict) else None
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"{path}: model_type {model_type!r} is not supported; expected {known}")
    return FAMILIES[model_type]


def _their_config(config: ModelConfig, dtype: str) -> dict[str, Any]:
    family = FAMILIES[config.family]
    return {
        "architectures": [family.architecture],
        "model_type": config.family,
        **family.write(config),
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_id,
        "eos_token_id": config.eos_id,
        "dtype": dtype,
    }


def _dtype_name(model: CausalLM) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _rules(config: ModelConfig, family: Family) -> Iterator[tuple[str, Rule]]:
    """Our tensor names with the rule that fills each, blocks spelled out."""
    for rule in family.rules(config):
        layers = range(config.num_layers) if "{layer}" in rule.ours else range(1)
        for layer in layers:
            ours = rule.ours.format(layer=layer)
            theirs = tuple(name.format(layer=layer) for name in rule.theirs)
            yield ours, Rule(ours, theirs, rule.is_transposed)
    if not config.tie_embeddings:
        yield "head.weight", Rule("head.weight", (_HEAD,))


def _split_sizes(rule: Rule, config: ModelConfig) -> list[int]:
    """Rows of each of their tensors inside ours."""
    if len(rule.theirs) == 3:
        kv = config.num_kv_heads * config.head_dim
        return [config.num_heads * config.head_dim, kv, kv]
    return [config.intermediate_size] * len(rule.theirs)


def _write_tensors(model: CausalLM, path: Path) -> None:
    config, state = model.config, model.state_dict()
    theirs: dict[str, Tensor] = {}
    for ours, rule in _rules(config, FAMILIES[config.family]):
        tensor = state[ours]
        parts = [tensor] if len(rule.theirs) == 1 else tensor.split(_split_sizes(rule, config))
        for name, part in zip(rule.theirs, parts, strict=True):
            theirs[name] = (part.t() if rule.is_transposed else part).contiguous()
    save_file(theirs, path, metadata={"format": "pt"})


def _read_tensors(folder: Path, family: Family) -> dict[str, Tensor]:
    """Reads every tensor of the folder under the name that the model with a head gives it."""
    tensors: dict[str, Tensor] = {}
    for path in _tensor_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                tensors.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
    return {
        name if name == _HEAD or name.startswith(family.prefix) else family.prefix + name: tensor
        for name, tensor in tensors.items()
        if not name.endswith(family.ignored)
    }


def _tensor_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            files = [folder / name for name in sorted(set(names))]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{index} is damaged; expected a weight_map of file names") from error
    else:
        files = [folder / "model.safetensors"]
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; expected the model's weights there")
    return files


def _take(theirs: dict[str, Tensor], rule: Rule, folder: Path) -> Tensor:
    for name in rule.theirs:
        if name not in theirs:
            raise ValueError(f"{folder} lacks the tensor {name!r}")
    parts = [theirs.pop(name) for name in rule.theirs]
    tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
    return tensor.t().contiguous() if rule.is_transposed else tensor


def _check_shapes(model: CausalLM, state: dict[str, Tensor], folder: Path) -> None:
    for name, weight in model.state_dict().items():
        if state[name].shape != weight.shape:
            raise ValueError(
                f"{folder}: the tensor for {name} has shape {tuple(state[name].shape)}; "
                f"expected {tuple(weight.shape)} from config.json"
            )

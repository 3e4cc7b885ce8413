"""Model folders in Hugging Face's form: config.json and model.safetensors, both ways."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from weldlm.atomic_file import replace_file, replace_text
from weldlm.config import ModelConfig
from weldlm.families import FAMILIES, Family, HeadFormat, Rule
from weldlm.heads import CausalLM, Model

__all__ = ["load_config", "load_pretrained", "save_pretrained"]

# what transformers writes nothing for
_NO_LABELS = ("LABEL_0", "LABEL_1")

M = TypeVar("M", bound=Model)


def save_pretrained(model: Model, folder: str | Path) -> None:
    """Writes a folder that `transformers` loads with equal logits.

    Raises:
        OSError: it cannot be written; a file that was there before is as it was.
        ValueError: their format has no such head for the model's family.
    """
    folder = Path(folder)
    head = _head_format(model.config, type(model))
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / "model.safetensors") as path:
        _write_tensors(model, head, path)
    text = json.dumps(_their_config(model, head), indent=2) + "\n"
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
        if theirs.get(name) not in (None, expected):
            raise ValueError(
                f"{path}: {name} = {theirs[name]!r} is not supported; expected {expected!r}"
            )
    try:
        return dataclasses.replace(family.read(theirs), **_common_fields(theirs))
    except KeyError as error:
        raise ValueError(f"{path} lacks the field {error.args[0]!r}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


@overload
def load_pretrained(
    folder: str | Path,
    *,
    device: torch.device | str = ...,
    dtype: torch.dtype | None = ...,
) -> CausalLM: ...
@overload
def load_pretrained(
    folder: str | Path,
    head: type[M],
    *,
    labels: Sequence[str] | None = ...,
    has_new_head: bool = ...,
    device: torch.device | str = ...,
    dtype: torch.dtype | None = ...,
) -> M: ...
def load_pretrained(
    folder: str | Path,
    head: type[Model] = CausalLM,
    *,
    labels: Sequence[str] | None = None,
    has_new_head: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Model:
    """Reads a model folder. Tensors of heads other than `head` are left out.

    Args:
        folder: holds config.json and model.safetensors, or shards with their index.
        head: what the model is for.
        labels: names of a classifier's outputs; those of the folder where None.
        has_new_head: weights of the head that the folder lacks are drawn from torch's generator.
        device: where the weights go.
        dtype: of the weights; as stored where None.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the configuration is not supported, or a tensor is missing, surplus, damaged or
            of another shape.
    """
    folder = Path(folder)
    config = load_config(folder)
    if labels is not None:
        config = dataclasses.replace(config, labels=tuple(labels))
    family = FAMILIES[config.family]
    head_format = _head_format(config, head)
    theirs = _read_tensors(folder, family)
    if _has_own_head(theirs, family):
        config = dataclasses.replace(config, tie_embeddings=False)
    with torch.device("meta"):
        model = head(config)
    state: dict[str, Tensor] = {}
    for name, rule in _rules(config, family, head_format):
        if has_new_head and not set(rule.theirs) & theirs.keys() and not _is_of_transformer(name):
            weight = model.get_parameter(name)
            state[name] = _drawn(weight, is_norm="norm" in name)
        else:
            state[name] = _take(theirs, rule, folder)
    surplus = [name for name in theirs if not name.startswith(family.head_prefixes)]
    if surplus:
        raise ValueError(f"{folder} holds the tensor {min(surplus)!r}, which {config.family} lacks")
    _fill_shared(model, state)
    _check_shapes(model, state, folder)
    model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
    return model.to(device)


def _family(theirs: Any, path: Path) -> Family:
    model_type = theirs.get("model_type") if isinstance(theirs, dict) else None
    if model_type not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise ValueError(f"{path}: model_type {model_type!r} is not supported; expected {known}")
    return FAMILIES[model_type]


def _head_format(config: ModelConfig, head: type[Model]) -> HeadFormat:
    heads = FAMILIES[config.family].heads
    if head.kind not in heads:
        known = ", ".join(heads)
        raise ValueError(f"{config.family} has no {head.kind} head; expected one of {known}")
    return heads[head.kind]


def _common_fields(theirs: dict[str, Any]) -> dict[str, Any]:
    """Fields that all families write alike."""
    eos = theirs.get("eos_token_id")
    eos_ids = eos if isinstance(eos, list) else [eos]
    fields: dict[str, Any] = {
        "bos_id": theirs.get("bos_token_id"),
        "eos_id": eos_ids[0] if eos_ids else None,
        "more_eos_ids": tuple(eos_ids[1:]),
        "pad_id": theirs.get("pad_token_id"),
    }
    if theirs.get("is_encoder_decoder"):
        start = theirs.get("decoder_start_token_id")
        fields["decoder_start_id"] = fields["pad_id"] if start is None else start
    if theirs.get("id2label"):
        names = sorted(theirs["id2label"].items(), key=lambda item: int(item[0]))
        fields["labels"] = tuple(name for _, name in names)
    return fields


def _their_config(model: Model, head: HeadFormat) -> dict[str, Any]:
    config = model.config
    eos_ids = [config.eos_id, *config.more_eos_ids]
    theirs: dict[str, Any] = {
        "architectures": [head.architecture],
        "model_type": config.family,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": config.bos_id,
        "eos_token_id": eos_ids if config.more_eos_ids else config.eos_id,
        "pad_token_id": config.pad_id,
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
    }
    if config.decoder_start_id is not None:
        theirs["decoder_start_token_id"] = config.decoder_start_id
    if config.labels != _NO_LABELS:
        theirs["id2label"] = dict(enumerate(config.labels))
        theirs["label2id"] = {name: place for place, name in enumerate(config.labels)}
    if model.kind == "regression":
        theirs["problem_type"] = "regression"
    return theirs | FAMILIES[config.family].write(config)


def _rules(config: ModelConfig, family: Family, head: HeadFormat) -> Iterator[tuple[str, Rule]]:
    """Our tensor names with the rule that fills each, blocks spelled out."""
    for rule in [*family.rules(config), *head.rules(config)]:
        is_encoder = rule.ours.startswith("encoder.")
        num_layers = config.num_encoder_layers if is_encoder else config.num_layers
        is_per_layer = "{layer}" in rule.ours
        for layer in range(rule.first_layer, num_layers if is_per_layer else 1):
            ours = rule.ours.format(layer=layer)
            theirs = tuple(name.format(layer=layer) for name in rule.theirs)
            yield ours, dataclasses.replace(rule, ours=ours, theirs=theirs)


def _is_of_transformer(name: str) -> bool:
    return name.startswith(("transformer.", "encoder.", "decoder."))


def _drawn(weight: Tensor, *, is_norm: bool) -> Tensor:
    """A weight of a new head, from the distribution that all weights start with."""
    fresh = torch.zeros(weight.shape)
    if weight.dim() >= 2:
        return nn.init.normal_(fresh, std=0.02)
    return fresh + 1 if is_norm else fresh


def _fill_shared(model: Model, state: dict[str, Tensor]) -> None:
    """Adds the other names of tensors that the model shares between its parts."""
    named = list(model.named_parameters(remove_duplicate=False))
    first = {id(weight): name for name, weight in reversed(named) if name in state}
    for name, weight in named:
        if name not in state and id(weight) in first:
            state[name] = state[first[id(weight)]]


def _split_sizes(rule: Rule, config: ModelConfig) -> list[int]:
    """Rows of each of their tensors inside ours: q, k and v, or k and v, or gate and up."""
    kv = config.num_kv_heads * config.head_dim
    if len(rule.theirs) == 3:
        return [config.num_heads * config.head_dim, kv, kv]
    return [kv if "attention" in rule.ours else config.intermediate_size] * 2


def _write_tensors(model: Model, head: HeadFormat, path: Path) -> None:
    config, state = model.config, model.state_dict()
    theirs: dict[str, Tensor] = {}
    for ours, rule in _rules(config, FAMILIES[config.family], head):
        tensor = state[ours]
        parts = [tensor] if len(rule.theirs) == 1 else tensor.split(_split_sizes(rule, config))
        for name, part in zip(rule.theirs, parts, strict=True):
            part = part.t() if rule.is_transposed else part
            theirs[name] = (part.unsqueeze(0) if rule.is_row else part).contiguous()
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
    for name, tensor in tensors.items():
        if name in family.zero and tensor.count_nonzero():
            raise ValueError(f"{folder}: the tensor {name!r} is not zero, which is not supported")
    return {
        _full_name(name, family): tensor
        for name, tensor in tensors.items()
        if not name.endswith(family.ignored)
    }


def _full_name(name: str, family: Family) -> str:
    for old, new in family.renamed.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    is_full = name.startswith((family.prefix, *family.head_prefixes))
    return name if is_full else family.prefix + name


def _has_own_head(theirs: dict[str, Tensor], family: Family) -> bool:
    """Whether the file holds a head that differs from the embedding, whatever config.json says."""
    head = theirs.get("lm_head.weight")
    embedding = theirs.get(family.tokens)
    if head is None or embedding is None:
        return False
    return head.shape == embedding.shape and not torch.equal(head, embedding)


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
    if rule.is_row:
        return tensor.flatten()
    return tensor.t().contiguous() if rule.is_transposed else tensor


def _check_shapes(model: Model, state: dict[str, Tensor], folder: Path) -> None:
    for name, weight in model.state_dict().items():
        if state[name].shape != weight.shape:
            raise ValueError(
                f"{folder}: the tensor for {name} has shape {tuple(state[name].shape)}; "
                f"expected {tuple(weight.shape)} from config.json"
            )

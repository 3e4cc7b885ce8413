"""Any model that weldlm reads, written as a Hugging Face folder with its tokenizer.

The folder appears whole or not at all.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from weldlm.cheaper_attention import group_kv_heads, with_window
from weldlm.checkpoint import is_in_parts, load_weights
from weldlm.heads import HEADS, Model
from weldlm.memory import require_memory
from weldlm.model_info import count_stored_parameters
from weldlm.quantization import WeightFormat, quantize_model
from weldlm.sealed_folder import replace_folder
from weldlm.tokenizer import Tokenizer
from weldlm.weights import (
    StoredModel,
    load_pretrained,
    open_model,
    save_pretrained,
    save_quantized,
)

__all__ = ["convert_model"]

Judge = Callable[[Model, Tokenizer | None], None]

_DEFAULT_SHARD_BYTES = 5_000_000_000
# how a model of that folder is used to generate; nothing here depends on it
_KEPT = "generation_config.json"


def convert_model(
    source: str | Path,
    target: str | Path,
    *,
    dtype: torch.dtype | None = None,
    weight_format: WeightFormat | None = None,
    num_kv_heads: int | None = None,
    window: int | None = None,
    judge: Judge | None = None,
    max_shard_bytes: int = _DEFAULT_SHARD_BYTES,
    report: Callable[[int, int], None] | None = None,
) -> bool:
    """Writes `target`, which transformers reads with equal logits if it is not quantized.

    Args:
        source: what `load_pretrained` takes, or a checkpoint in parts.
        target: a folder that does not exist yet.
        dtype: of the weights; as stored where None, fp32 where they are quantized.
        weight_format: rounds them, as `quantize_model` does; weldlm alone reads the folder then.
        num_kv_heads: see `group_kv_heads`; as they are where None.
        window: see `with_window`; as it is where None.
        judge: called with model and tokenizer before any of that is changed, and afterwards.
        max_shard_bytes: a larger model becomes several files with an index.
        report: called with how much is done, read or written, and of how much.

    Returns:
        Whether the source had a tokenizer.

    Raises:
        FileExistsError: `target` exists.
        FileNotFoundError: there is no model.
        ValueError: the model or its tokenizer is damaged or not supported, or too large.
    """
    target = Path(target)
    if target.exists():
        raise FileExistsError(f"{target} exists; remove it or choose another folder")
    if max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes is {max_shard_bytes}; expected at least 1")
    if weight_format is not None:
        if dtype not in (None, torch.float32):
            raise ValueError(
                f"dtype is {dtype} beside weights in {weight_format}; expected none, since what is "
                "not rounded stays in fp32"
            )
        dtype = torch.float32
    model, path = _read(source, dtype, _half(report, is_second=False))
    tokenizer = _tokenizer(path)
    _check_finite(model, path)
    changes = weight_format, num_kv_heads, window
    if any(change is not None for change in changes):
        model = _changed(model, *changes, judge=lambda one: judge and judge(one, tokenizer))
    with replace_folder(target) as draft:
        second = _half(report, is_second=True)
        save = save_pretrained if weight_format is None else save_quantized
        save(model, draft, max_shard_bytes=max_shard_bytes, report=second)
        if tokenizer is not None:
            tokenizer.save_pretrained(draft)
        if (path / _KEPT).is_file():
            shutil.copyfile(path / _KEPT, draft / _KEPT)
    return tokenizer is not None


def _changed(
    model: Model,
    weight_format: WeightFormat | None,
    num_kv_heads: int | None,
    window: int | None,
    *,
    judge: Callable[[Model], object],
) -> Model:
    judge(model)
    if num_kv_heads is not None:
        model = group_kv_heads(model, num_kv_heads)
    if window is not None:
        model = with_window(model, window)
    if weight_format is not None:
        quantize_model(model.eval(), weight_format)
    judge(model)
    return model


def _read(
    source: str | Path, dtype: torch.dtype | None, report: Callable[[int, int], None] | None
) -> tuple[Model, Path]:
    """The model, and the folder or file that it was in."""
    if is_in_parts(Path(source)):
        return load_weights(Path(source)).to(dtype), Path(source)
    stored = open_model(source)
    _require_memory(stored, dtype)
    model = load_pretrained(source, HEADS[stored.head], dtype=dtype, report=report)
    return model, stored.path


def _require_memory(stored: StoredModel, dtype: torch.dtype | None) -> None:
    num_parameters = count_stored_parameters(stored)
    size = (dtype or stored.tensors.dtype or torch.bfloat16).itemsize
    require_memory(
        num_parameters * size,
        f"{stored.path} with its {num_parameters:,} parameters",
        advice="choose a dtype of 16 bits, or a machine with more memory",
    )


def _tokenizer(path: Path) -> Tokenizer | None:
    try:
        return Tokenizer.from_pretrained(path)
    except FileNotFoundError:
        return None


def _half(
    report: Callable[[int, int], None] | None, *, is_second: bool
) -> Callable[[int, int], None] | None:
    """Reports one of two halves of the work in percent of all."""
    if report is None:
        return None
    return lambda done, total: report(50 * is_second + 50 * done // total, 100)


def _check_finite(model: Model, path: Path) -> None:
    """Whether a conversion made numbers infinite, which fp16 holds up to 65,504 only."""
    for name, weight in model.named_parameters():
        if weight.dtype == torch.float16 and not bool(weight.isfinite().all()):
            raise ValueError(
                f"{path}: {name} has numbers that float16 does not hold; choose bfloat16 or float32"
            )

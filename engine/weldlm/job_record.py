"""What a batch job is made of, so that its command goes on after an interruption, and only it.

The record lies beside the rows of a job that is under way and goes with them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from weldlm.atomic_file import replace_text
from weldlm.generation import GenerativeModel
from weldlm.heads import Model
from weldlm.layers import PackedEmbedding, PackedLinear
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.fingerprint import fingerprint
from weldlm_kernels import PackedQuantizedWeight

__all__ = [
    "DoneRows",
    "describe_job",
    "open_record",
    "read_done_rows",
    "read_record",
    "require_same_job",
    "row_places",
]

_SAMPLES = 4_096  # of each weight go into the model's fingerprint


@dataclasses.dataclass(frozen=True, slots=True)
class DoneRows:
    """What an interrupted job has written."""

    indexes: frozenset[int]
    num_failed: int
    num_bytes: int  # of whole lines; a kill may have left part of one behind them


def describe_job(
    model: GenerativeModel | Model, tokenizer: Tokenizer, settings: Mapping[str, Any], source: Path
) -> dict[str, Any]:
    """Returns everything that the rows depend on, as JSON gives it back."""
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    job = {
        "source": digest,
        "model": _model_fingerprint(model),
        "tokenizer": fingerprint(tokenizer),
        **settings,
    }
    return dict(json.loads(json.dumps(job)))


def open_record(path: Path, rows: Path, job: dict[str, Any]) -> DoneRows:
    """Writes the record of a new job, or reads what the same job has done before.

    Raises:
        FileExistsError: `rows` belong to another job.
    """
    if not rows.exists():
        replace_text(path, json.dumps(job, indent=2) + "\n")
        return DoneRows(frozenset(), 0, 0)
    require_same_job(path, rows, job)
    return read_done_rows(rows)


def require_same_job(path: Path, rows: Path, job: dict[str, Any]) -> None:
    """Refuses rows that another job made.

    Raises:
        FileExistsError: the record at `path` is of another job.
    """
    earlier = read_record(path)
    for name, value in job.items():
        if earlier.get(name) != value:
            raise FileExistsError(
                f"{rows} holds rows of a job with another {name}; give the same command to go on, "
                "or delete it to start over"
            )


def read_done_rows(path: Path) -> DoneRows:
    """Reads the rows up to the first line that is not one."""
    indexes, num_failed, num_bytes = set(), 0, 0
    for index, _, size, is_failed in row_places(path):
        indexes.add(index)
        num_failed += is_failed
        num_bytes += size
    return DoneRows(frozenset(indexes), num_failed, num_bytes)


def row_places(path: Path) -> Iterator[tuple[int, int, int, bool]]:
    """Yields (index, offset, number of bytes, whether it is an error) of rows.

    It ends at the first line that is no row.
    """
    offset = 0
    with path.open("rb") as lines:
        for line in lines:
            try:
                row = json.loads(line if line.endswith(b"\n") else b"")
                index = int(row["index"])
            except (ValueError, KeyError, TypeError):
                break
            yield index, offset, len(line), row.get("error") is not None
            offset += len(line)


def read_record(path: Path) -> dict[str, Any]:
    """What a job is made of; empty where nothing says it."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _weights(model: GenerativeModel | Model) -> Iterator[Tensor]:
    """Parameters, and the tensors of packed layers."""
    yield from model.parameters()
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(module, PackedLinear | PackedEmbedding):
            weight = module.weight
            yield weight.values
            if isinstance(weight, PackedQuantizedWeight):
                yield from (part for part in (weight.scales, weight.minimums) if part is not None)


def _model_fingerprint(model: GenerativeModel | Model) -> str:
    digest = hashlib.sha256(repr(model.config).encode())
    for weight in _weights(model):
        flat = weight.detach().reshape(-1)
        samples = flat[:: max(1, flat.numel() // _SAMPLES)].cpu().to(torch.float64)
        digest.update(f"{weight.dtype}{tuple(weight.shape)}".encode() + samples.numpy().tobytes())
    return digest.hexdigest()

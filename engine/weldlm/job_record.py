"""What a batch job is made of, so that its command goes on after an interruption, and only it.

The record lies beside the rows of a job that is under way and goes with them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from weldlm.atomic_file import replace_text
from weldlm.generation import GenerativeModel
from weldlm.heads import Model
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.fingerprint import fingerprint

__all__ = ["DoneRows", "describe_job", "open_record", "read_done_rows"]

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
    earlier = _read(path)
    for name, value in job.items():
        if earlier.get(name) != value:
            raise FileExistsError(
                f"{rows} holds rows of a job with another {name}; give the same command to go on, "
                "or delete it to start over"
            )
    return read_done_rows(rows)


def read_done_rows(path: Path) -> DoneRows:
    """Reads the rows up to the first line that is not one."""
    indexes, num_failed, num_bytes = set(), 0, 0
    with path.open("rb") as lines:
        for line in lines:
            try:
                row = json.loads(line if line.endswith(b"\n") else b"")
                indexes.add(int(row["index"]))
            except (ValueError, KeyError, TypeError):
                break
            num_failed += "error" in row
            num_bytes += len(line)
    return DoneRows(frozenset(indexes), num_failed, num_bytes)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _model_fingerprint(model: GenerativeModel | Model) -> str:
    digest = hashlib.sha256(repr(model.config).encode())
    for weight in model.parameters():
        flat = weight.detach().reshape(-1)
        samples = flat[:: max(1, flat.numel() // _SAMPLES)].cpu().to(torch.float64)
        digest.update(f"{weight.dtype}{tuple(weight.shape)}".encode() + samples.numpy().tobytes())
    return digest.hexdigest()

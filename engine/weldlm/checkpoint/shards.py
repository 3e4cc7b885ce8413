"""Checkpoints in parts: every rank writes what it holds (`torch.distributed.checkpoint`).

`state/shards/` holds a file for each rank and `.metadata`, which says where each piece of each
tensor lies, so that ranks of another number, or one alone, read what they hold. Tensors that all
ranks have are shared out among them. Names begin with `model/` (averages, where the run has them),
`weights/` (those that training goes on from, where the model's are averages) and `optimizer/`.
"""

import pickle
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save
from torch.optim import Optimizer

from weldlm.checkpoint.optimizer_state import (
    optimizer_tensors,
    set_optimizer_tensors,
    weight_name,
)
from weldlm.ema import Ema
from weldlm.heads import Model

__all__ = ["held_tensors", "read_weights", "restore_shards", "wait_for_shards", "write_shards"]

_MODEL, _WEIGHTS, _OPTIMIZER = "model/", "weights/", "optimizer/"
_METADATA = ".metadata"
_CLASSES = "torch.distributed.checkpoint.metadata"
# what torch's description of a checkpoint is made of, besides the names of types
_DESCRIPTIONS = frozenset(
    (
        (_CLASSES, "Metadata"),
        (_CLASSES, "MetadataIndex"),
        (_CLASSES, "StorageMeta"),
        (_CLASSES, "TensorStorageMetadata"),
        (_CLASSES, "TensorProperties"),
        (_CLASSES, "ChunkStorageMetadata"),
        (_CLASSES, "_MEM_FORMAT_ENCODING"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
        ("torch", "Size"),
        ("pathlib", "PosixPath"),
        ("pathlib._local", "PosixPath"),
    )
)


def held_tensors(model: Model, optimizer: Optimizer, ema: Ema | None) -> dict[str, Tensor]:
    """All that a checkpoint holds, in this rank's parts."""
    with nullcontext() if ema is None else ema.applied():
        # first: it leaves ranks with their parts again, where a validation had gathered them
        tensors = _prefixed(_MODEL, model.state_dict())
    tensors |= _prefixed(_OPTIMIZER, optimizer_tensors(model, optimizer))
    if ema is not None:
        tensors |= _prefixed(_WEIGHTS, ema.weights())
    return tensors


def write_shards(
    folder: Path,
    tensors: dict[str, Tensor],
    *,
    group: dist.ProcessGroup | None,
    is_async: bool,
) -> "Future[Any]":
    """Writes this rank's parts, or begins to; all ranks call it.

    Args:
        folder: to be made.
        tensors: may change once this has returned.
        group: of all ranks, on the host, which nothing else uses meanwhile; None where there is
            one process.
        is_async: copies the tensors and writes the copies in a thread.

    Returns:
        What `wait_for_shards` takes.
    """
    options: dict[str, Any] = {
        "storage_writer": FileSystemWriter(folder),
        "process_group": group,
        "no_dist": group is None,
    }
    _expect_one_process()
    if is_async:
        begun: Future[Any] = async_save(tensors, **options)  # type: ignore[assignment]
        return begun
    done: Future[Any] = Future()
    try:
        done.set_result(save(tensors, **options))
    except CheckpointException as error:
        done.set_exception(error)
    return done


def wait_for_shards(written: "Future[Any]") -> None:
    """Returns when the parts of all ranks are on the disk.

    Raises:
        OSError: one of them is not.
    """
    try:
        written.result()
    except CheckpointException as error:
        problems = [f"rank {rank}: {problem[0]}" for rank, problem in error.failures.items()]
        raise OSError("; ".join(problems)) from error


def restore_shards(
    folder: Path,
    *,
    model: Model,
    optimizer: Optimizer,
    ema: Ema | None,
    num_updates: Tensor,
    group: dist.ProcessGroup | None,
) -> None:
    """Sets this rank's parts of model, optimizer and average; all ranks call it."""
    tensors = _prefixed(_MODEL, model.state_dict())
    weights = dict(model.named_parameters())
    kept = {
        key: _room_for(key, entry, weights)
        for key, entry in _read_metadata(folder).state_dict_metadata.items()
        if key.startswith(_OPTIMIZER) and isinstance(entry, TensorStorageMetadata)
    }
    own = {} if ema is None else {name: w.clone() for name, w in ema.weights().items()}
    _load(folder, tensors | kept | _prefixed(_WEIGHTS, own), group)
    if ema is not None:
        ema.load_state_dict({**ema.weights(), "num_updates": num_updates})
        ema.set_weights(own)
    averages = {key.removeprefix(_OPTIMIZER): value for key, value in kept.items()}
    set_optimizer_tensors(averages, model, optimizer)


def read_weights(folder: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Returns whole weights of the model, in this process alone."""
    stored = _read_metadata(folder).state_dict_metadata
    found: dict[str, Tensor] = {}
    for name in names:
        entry = stored[f"{_MODEL}{name}"]
        assert isinstance(entry, TensorStorageMetadata)
        found[name] = torch.empty(entry.size, dtype=entry.properties.dtype)
    _load(folder, _prefixed(_MODEL, found), None)
    return found


def _load(folder: Path, tensors: dict[str, Tensor], group: dist.ProcessGroup | None) -> None:
    """Fills `tensors`."""
    _read_metadata(folder)  # which the reader takes as it is
    reader = FileSystemReader(folder)
    _expect_one_process()
    load(tensors, storage_reader=reader, process_group=group, no_dist=group is None)


def _room_for(
    key: str, entry: TensorStorageMetadata, weights: Mapping[str, torch.nn.Parameter]
) -> Tensor:
    """For a tensor of the optimizer: in parts as its weight is, where it has the shape of it."""
    weight = weights[weight_name(key.removeprefix(_OPTIMIZER))].detach()
    if weight.shape == entry.size:
        return torch.empty_like(weight, dtype=entry.properties.dtype)
    return torch.empty(entry.size, dtype=entry.properties.dtype)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor.detach() for name, tensor in tensors.items()}


def _read_metadata(folder: Path) -> Metadata:
    """What torch says of the files, which it pickles; nothing but descriptions is taken from it."""
    with (folder / _METADATA).open("rb") as file:
        metadata = _MetadataUnpickler(file).load()
    assert isinstance(metadata, Metadata)
    return metadata


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Finds what a description is made of.

        Raises:
            ValueError: the file asks for something else.
        """
        is_type = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_type and (module, name) not in _DESCRIPTIONS:
            raise ValueError(
                f"the checkpoint's {_METADATA} asks for {module}.{name}; expected descriptions of "
                "tensors alone: it is not what torch wrote; take another checkpoint"
            )
        return super().find_class(module, name)


def _expect_one_process() -> None:
    """Tells torch for good, whose thread warns whenever it finds no other processes."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")

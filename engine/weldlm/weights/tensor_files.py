"""Tensors by name in the files of a folder: safetensors, whole or in shards, or torch's .bin.

A tensor is read through a memory map when it is asked for, so that no more than one lies in memory
beside what the caller made of the others.
"""

import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from weldlm.atomic_file import replace_file, replace_text

__all__ = ["DEFAULT_SHARD_BYTES", "TensorFiles", "TensorPlan", "has_tensor_files", "write_tensors"]

DEFAULT_SHARD_BYTES = 5_000_000_000

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# how the header of safetensors names those of pickles
_STORED_AS = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
}


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where a tensor lies."""

    path: Path
    name: str
    shape: tuple[int, ...]
    stored_as: str


class TensorFiles:
    """The tensors of a folder, each under the name that `rename` gives it (none where None).

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: a file is damaged, or holds something that is not a plain tensor.
    """

    dtype = None

    def __init__(self, folder: Path, rename: Callable[[str], str | None]) -> None:
        self._stored: dict[str, _Stored] = {}
        self._pickled: dict[Path, dict[str, Tensor]] = {}
        for path in _tensor_files(folder):
            is_pickle = path.suffix == ".bin"
            for stored in self._in_pickle(path) if is_pickle else _in_safetensors(path):
                renamed = rename(stored.name)
                if renamed is not None:
                    self._stored[renamed] = stored

    @property
    def names(self) -> list[str]:
        return list(self._stored)

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def shape(self, name: str) -> tuple[int, ...]:
        return self._stored[name].shape

    def stored_as(self, name: str) -> str:
        return self._stored[name].stored_as

    @property
    def num_bytes(self) -> int:
        """Of the files."""
        paths = {stored.path for stored in self._stored.values()}
        return sum(path.stat().st_size for path in paths)

    def read(self, name: str) -> Tensor:
        """Returns a view of the file.

        Raises:
            ValueError: it is damaged, or the tensor is not of floating-point numbers.
        """
        stored, tensor = self._stored[name], self.read_stored(name)
        if tensor.dtype not in _DTYPES:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
            raise ValueError(
                f"{stored.path}: {stored.name!r} is in {tensor.dtype}; expected one of {known}"
            )
        return tensor

    def read_stored(self, name: str) -> Tensor:
        """Returns a view of the file, of any type of numbers.

        Raises:
            ValueError: it is damaged.
        """
        stored = self._stored[name]
        if stored.path in self._pickled:
            tensor = self._pickled[stored.path][stored.name]
        else:
            try:
                with safe_open(stored.path, framework="pt") as file:
                    tensor = file.get_tensor(stored.name)
            except (SafetensorError, OSError) as error:
                raise _damaged(stored.path, error) from error
        return tensor

    def _in_pickle(self, path: Path) -> list[_Stored]:
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} holds more than tensors, and code in it is not run; expected plain "
                "weights; ask for them as safetensors"
            ) from error
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise _damaged(path, error) from error
        if not isinstance(tensors, dict) or not all(
            isinstance(tensor, Tensor) for tensor in tensors.values()
        ):
            raise ValueError(
                f"{path} holds something else than tensors by name; expected a model's weights; "
                "ask for them as safetensors"
            )
        self._pickled[path] = tensors
        return [
            _Stored(path, name, tuple(tensor.shape), _STORED_AS.get(tensor.dtype, "other"))
            for name, tensor in tensors.items()
        ]


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor to write: its size, and how to make it."""

    num_bytes: int
    make: Callable[[], Tensor]


def write_tensors(
    folder: Path,
    plans: Mapping[str, TensorPlan],
    *,
    max_shard_bytes: int,
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Writes tensors into one file, or several of at most `max_shard_bytes` (or one tensor) each.

    Files of an earlier model that would contradict them are removed afterwards. `report` is called
    with the number of tensors written and of all tensors.
    """
    shards = _shards(plans, max_shard_bytes)
    names = [
        _WHOLE if len(shards) == 1 else f"model-{place:05}-of-{len(shards):05}.safetensors"
        for place in range(1, len(shards) + 1)
    ]
    num_written = 0
    for file, shard in zip(names, shards, strict=True):
        with replace_file(folder / file) as path:
            tensors = {name: plans[name].make() for name in shard}
            try:
                save_file(tensors, path, metadata={"format": "pt"})
            except SafetensorError as error:  # of the disk: the tensors are plain
                raise OSError(f"{folder / file} could not be written ({error})") from error
        num_written += len(shard)
        if report is not None:
            report(num_written, len(plans))
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(plan.num_bytes for plan in plans.values())},
            "weight_map": {
                name: file for file, shard in zip(names, shards, strict=True) for name in shard
            },
        }
        replace_text(folder / _INDEX, json.dumps(index, indent=2) + "\n")
    written = {*names, _INDEX} if len(shards) > 1 else set(names)
    for path in [folder / _INDEX, folder / _WHOLE, *folder.glob("model-*-of-*.safetensors")]:
        if path.name not in written:
            path.unlink(missing_ok=True)


def _shards(plans: Mapping[str, TensorPlan], max_shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, plan in plans.items():
        if shards[-1] and size + plan.num_bytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += plan.num_bytes
    return shards


def _in_safetensors(path: Path) -> list[_Stored]:
    try:
        with safe_open(path, framework="pt") as file:
            names: Iterable[str] = file.keys()
            parts = [(name, file.get_slice(name)) for name in names]
            return [
                _Stored(path, name, tuple(part.get_shape()), part.get_dtype())
                for name, part in parts
            ]
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def has_tensor_files(folder: Path) -> bool:
    """Whether a folder holds weights in one of the forms that are read here."""
    names = (_INDEX, _WHOLE, _PICKLED_INDEX, _PICKLED)
    return any((folder / name).is_file() for name in names)


def _tensor_files(folder: Path) -> list[Path]:
    """The first of the forms in which weights come that is there."""
    for index in (folder / _INDEX, folder / _PICKLED_INDEX):
        if index.is_file():
            return _files_of_index(index)
    binary = folder / _PICKLED
    if not (folder / _WHOLE).is_file() and binary.is_file():
        return [binary]
    return [_existing(folder / _WHOLE)]


def _files_of_index(index: Path) -> list[Path]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        files = sorted(set(names))
        is_outside = any(Path(name).name != name for name in files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is damaged; expected a weight_map of file names") from error
    if is_outside:
        raise ValueError(f"{index} names files outside its folder; expected names without a path")
    return [_existing(index.parent / name) for name in files]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected the model's weights there")
    return path


def _damaged(path: Path, error: Exception) -> ValueError:
    problem = " ".join(str(error).split())
    return ValueError(
        f"{path} is damaged ({problem}); expected the weights as they were written; get the file "
        "again"
    )

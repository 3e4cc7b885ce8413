"""The checkpoint folders of a run: how one comes about, which are whole, which stay."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from weldlm.checkpoint.run_state import RunState
from weldlm.config import HeadKind
from weldlm.disk_space import require_disk_space
from weldlm.sealed_folder import check_hashes, read_manifest, remove_folder, seal_folder

__all__ = [
    "RANDOM",
    "SHARDS",
    "STATE",
    "Search",
    "checkpoint_folder",
    "newest_valid",
    "read_head",
    "read_state",
    "seal_checkpoint",
]

STATE = "state"  # the folder in a checkpoint that the model folder has not
RANDOM = "rng.safetensors"  # in it
SHARDS = "shards"  # in it, where the checkpoint is in parts

_RUN = "run.json"
_TOKENIZER = "tokenizer.json"  # goes into every checkpoint where the run's folder holds one
_KIND = "weldlm checkpoint"
_VERSION = 2
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Search:
    """What `newest_valid` found."""

    newest: Path | None  # the newest whole checkpoint
    damaged: tuple[str, ...]  # what is wrong with each newer one


@contextmanager
def seal_checkpoint(
    out: Path, state: RunState, *, num_bytes: int, head: HeadKind
) -> Iterator[Path]:
    """Yields a draft of the checkpoint of `state.step`, which takes its place when the block ends.

    After that all older ones go but as many as the settings keep, and that of the best validation.

    Args:
        out: folder of the run.
        state: of the run.
        num_bytes: that the tensors take.
        head: kind of the model's head.

    Raises:
        OSError: it could not be written, for example because the disk is full; the older
            checkpoints are as they were.
    """
    folder = checkpoint_folder(out, state.step)
    try:
        require_disk_space(out, num_bytes, "it")
        with seal_folder(folder, replace=True) as draft:
            draft.about.update(kind=_KIND, version=_VERSION, step=state.step, head=head)
            if (out / _TOKENIZER).is_file():
                shutil.copyfile(out / _TOKENIZER, draft.path / _TOKENIZER)
            (draft.path / STATE).mkdir()
            (draft.path / STATE / _RUN).write_text(state.to_json(), encoding="utf-8")
            yield draft.path
    except (OSError, SafetensorError) as error:
        kept = ", ".join(path.name for path in _checkpoints(out)) or "none"
        message = f"{folder} could not be written ({error}); checkpoints that are kept: {kept}"
        raise OSError(message) from error
    older = [path for path in _checkpoints(out) if _step(path) <= state.step]
    for path in older[state.settings.keep_checkpoints :]:
        if state.best is None or _step(path) != state.best.step:
            remove_folder(path)


def checkpoint_folder(out: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return out / f"checkpoint-{step}"


def newest_valid(out: Path) -> Search:
    """Finds the newest checkpoint whose files all have the size and hash of its manifest."""
    damaged = []
    for path in _checkpoints(out):
        try:
            check_hashes(path, _read_manifest(path))
        except (ValueError, OSError) as error:
            damaged.append(f"{path.name}: {error}")
        else:
            return Search(path, tuple(damaged))
    return Search(None, tuple(damaged))


def read_state(checkpoint: Path) -> RunState:
    """Reads where the run of a whole checkpoint stands."""
    return RunState.from_json((checkpoint / STATE / _RUN).read_text(encoding="utf-8"))


def read_head(checkpoint: Path) -> HeadKind:
    """Reads of what kind the head of a whole checkpoint's model is."""
    head: HeadKind = _read_manifest(checkpoint)["head"]
    return head


def _checkpoints(out: Path) -> list[Path]:
    """All checkpoint folders, newest first."""
    found = [path for path in out.glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted((path for path in found if path.is_dir()), key=_step, reverse=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _read_manifest(checkpoint: Path) -> dict[str, Any]:
    manifest = read_manifest(checkpoint)
    if manifest.get("kind") != _KIND or manifest.get("version") != _VERSION:
        raise ValueError(
            f"{checkpoint} holds {manifest.get('kind', 'something else')!r}, version "
            f"{manifest.get('version')}; expected {_KIND!r}, version {_VERSION}"
        )
    return manifest

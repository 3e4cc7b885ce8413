"""Checkpoints: `out/checkpoint-<step>/`, a Hugging Face model folder with `state/` inside.

`state/run.json` says where the run stands, `state/optimizer.safetensors` holds the optimizer's
averages by parameter name and `state/rng.safetensors` torch's random generators. Where the run
averages its weights, the model folder has the averages and `state/weights.safetensors` the weights
that training goes on from. Of a model with adapters there are `adapters/<name>/` for PEFT and
`trained.safetensors` in place of the model folder; frozen weights are those that the run began
with. The folder is sealed (see weldlm.sealed_folder), so a checkpoint that exists is whole unless
the disk damaged it.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from weldlm.adapters import adapter_names, load_trainable_state, save_adapter, trainable_state
from weldlm.config import ModelConfig
from weldlm.disk_space import require_disk_space
from weldlm.distributed import held_part
from weldlm.ema import Ema
from weldlm.heads import HEADS, Model
from weldlm.loss_scale import LossScale
from weldlm.sealed_folder import check_hashes, read_manifest, remove_folder, seal_folder
from weldlm.train_settings import FREE_TO_CHANGE, TrainSettings
from weldlm.weights import load_pretrained, save_pretrained

__all__ = [
    "Best",
    "RunState",
    "Search",
    "check_same_run",
    "checkpoint_bytes",
    "checkpoint_folder",
    "config_values",
    "newest_valid",
    "optimizer_tensors",
    "read_state",
    "restore",
    "save_checkpoint",
]

TOKENIZER = "tokenizer.json"  # goes into every checkpoint where the run's folder holds one

_TRAINED = "trained.safetensors"  # of a model with adapters, in place of the model folder

_KIND = "weldlm checkpoint"
_VERSION = 2
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Best:
    """A validation."""

    step: int  # after which it was made
    value: float  # of the settings' best_metric


@dataclass(frozen=True, slots=True)
class RunState:
    """Where a run stands, and what it is a run of."""

    step: int  # optimizer steps done
    elapsed: float  # seconds of training so far
    evaluated_step: int  # the last step after which a validation was completed; 0 where none was
    settings: TrainSettings  # as resolved
    config: dict[str, Any]  # of the model
    data_fingerprint: str
    objective: str  # what is asked of the data
    tokens: int = 0  # learned from so far
    best: "Best | None" = None  # validation so far, where the settings name a best_metric
    num_worse: int = 0  # validations since
    recent_losses: tuple[float, ...] = ()  # of the last steps
    num_updates: int = 0  # steps that changed the weights
    loss_scale: LossScale | None = None  # of the next step, in float16
    skipped: tuple[int, ...] = ()  # steps, counted from 0, from which nothing is learned

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunState":
        values = json.loads(text)
        best = None if values["best"] is None else Best(**values["best"])
        scale = None if values["loss_scale"] is None else LossScale(**values["loss_scale"])
        settings = TrainSettings.from_json(values["settings"])
        lists = {name: tuple(values[name]) for name in ("recent_losses", "skipped")}
        return cls(**{**values, **lists, "settings": settings, "best": best, "loss_scale": scale})


@dataclass(frozen=True, slots=True)
class Search:
    """What `newest_valid` found."""

    newest: Path | None  # the newest whole checkpoint
    damaged: tuple[str, ...]  # what is wrong with each newer one


def config_values(config: ModelConfig) -> dict[str, Any]:
    """The fields of a model's configuration as JSON gives them back."""
    return dict(json.loads(json.dumps(dataclasses.asdict(config))))


def save_checkpoint(
    out: Path,
    state: RunState,
    *,
    model: Model,
    averages: Mapping[str, Tensor],
    ema: Ema | None,
    keep: int,
) -> Path:
    """Writes the checkpoint of `state.step` and then removes all older ones but `keep - 1`.

    The one of the best validation stays. Where there is an average of the weights, it is what the
    model folder holds.

    Args:
        out: folder of the run.
        state: of the run.
        model: with all of its weights.
        averages: what `optimizer_tensors` gives.
        ema: an average of the weights.
        keep: checkpoints that stay.

    Raises:
        OSError: it could not be written, for example because the disk is full; the older
            checkpoints are as they were.
    """
    folder = checkpoint_folder(out, state.step)
    try:
        require_disk_space(out, checkpoint_bytes(model, averages, ema), "it")
        with seal_folder(folder, replace=True) as draft:
            draft.about.update(kind=_KIND, version=_VERSION, step=state.step)
            with nullcontext() if ema is None else ema.applied():
                _save_weights(model, draft.path)
            if (out / TOKENIZER).is_file():
                shutil.copyfile(out / TOKENIZER, draft.path / TOKENIZER)
            inside = draft.path / "state"
            inside.mkdir()
            (inside / "run.json").write_text(state.to_json(), encoding="utf-8")
            save_file(dict(averages), inside / "optimizer.safetensors")
            save_file(_rng_tensors(_device(model)), inside / "rng.safetensors")
            if ema is not None:
                save_file(ema.weights(), inside / "weights.safetensors")
    except (OSError, SafetensorError) as error:
        kept = ", ".join(path.name for path in _checkpoints(out)) or "none"
        message = f"{folder} could not be written ({error}); checkpoints that are kept: {kept}"
        raise OSError(message) from error
    older = [path for path in _checkpoints(out) if _step(path) <= state.step]
    for path in older[keep:]:
        if state.best is None or _step(path) != state.best.step:
            remove_folder(path)
    return folder


def checkpoint_bytes(model: Model, averages: Mapping[str, Tensor], ema: Ema | None) -> int:
    """What a checkpoint takes: weights, what the optimizer keeps of each, and their averages."""
    tensors = [*model.parameters(), *averages.values()]
    tensors += [] if ema is None else ema.weights().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


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
    return RunState.from_json((checkpoint / "state" / "run.json").read_text(encoding="utf-8"))


def restore(
    checkpoint: Path, *, model: Model, optimizer: Optimizer, ema: Ema | None = None
) -> None:
    """Sets model, optimizer and torch's random generators to what a whole checkpoint holds.

    Also the average of the weights, where there is one.
    """
    device = _device(model)
    _restore_weights(checkpoint, model)
    if ema is not None:
        num_updates = torch.tensor(read_state(checkpoint).num_updates)
        ema.load_state_dict({**ema.weights(), "num_updates": num_updates})
        ema.set_weights(load_file(checkpoint / "state" / "weights.safetensors"))
    _restore_optimizer(load_file(checkpoint / "state" / "optimizer.safetensors"), model, optimizer)
    generators = load_file(checkpoint / "state" / "rng.safetensors")
    torch.set_rng_state(generators["cpu"])
    if device.type == "cuda" and "cuda" in generators:
        torch.cuda.set_rng_state(generators["cuda"], device)


def _save_weights(model: Model, folder: Path) -> None:
    """All weights; of a model with adapters only those that are trained, and PEFT folders."""
    names = adapter_names(model)
    if not names:
        save_pretrained(model, folder)
        return
    for name in names:
        save_adapter(model, folder / "adapters" / name, name)
    save_file(trainable_state(model), folder / _TRAINED)


def _restore_weights(checkpoint: Path, model: Model) -> None:
    is_of_adapters = (checkpoint / _TRAINED).is_file()
    if is_of_adapters != bool(adapter_names(model)):
        whose = "a model with adapters" if is_of_adapters else "a model without adapters"
        raise ValueError(
            f"{checkpoint} is of {whose}; expected one of the model that is trained; add or remove "
            "adapters as in the run, or give another out folder"
        )
    if is_of_adapters:
        load_trainable_state(model, load_file(checkpoint / _TRAINED))
        return
    saved = load_pretrained(checkpoint, HEADS[model.kind], labels=model.config.labels).state_dict()
    held = model.state_dict()
    model.load_state_dict({name: held_part(saved[name], held[name]) for name in held})


def check_same_run(saved: RunState, now: RunState, *, where: Path) -> None:
    """Refuses to go on with another model, other data, or settings that change the result.

    Raises:
        ValueError: names the first field that differs.
    """
    if saved.data_fingerprint != now.data_fingerprint:
        raise ValueError(
            f"{where} was trained on data with fingerprint {saved.data_fingerprint[:12]}, but the "
            f"data given has {now.data_fingerprint[:12]}; give the same data or another out folder"
        )
    if saved.objective != now.objective:
        raise ValueError(
            f"{where} was trained with the objective {saved.objective}, but {now.objective} is "
            "given; give the same or another out folder"
        )
    _check_fields("the model's ", saved.config, now.config, where)
    settings = [
        {key: value for key, value in _fields(state).items() if key not in FREE_TO_CHANGE}
        for state in (saved, now)
    ]
    _check_fields("", settings[0], settings[1], where)


def _check_fields(what: str, saved: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    for name in sorted(saved.keys() | now.keys()):
        if saved.get(name) != now.get(name):
            raise ValueError(
                f"{where} was trained with {what}{name} = {saved.get(name)}, but {now.get(name)} "
                f"is given; give the same {name} or another out folder"
            )


def _fields(state: RunState) -> dict[str, Any]:
    return dataclasses.asdict(state.settings)


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


def _device(model: Model) -> torch.device:
    return next(model.parameters()).device


def optimizer_tensors(model: Model, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors as `<parameter>/<entry>`."""
    return {
        f"{name}/{entry}": value
        for name, weight in model.named_parameters()
        for entry, value in optimizer.state.get(weight, {}).items()
    }


def _restore_optimizer(tensors: dict[str, Tensor], model: Model, optimizer: Optimizer) -> None:
    weights = dict(model.named_parameters())
    index = {
        id(weight): place
        for place, weight in enumerate(
            weight for group in optimizer.param_groups for weight in group["params"]
        )
    }
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        # cloned: a tensor that safetensors maps from the file need not be aligned in memory
        part = held_part(value, weights[name]).clone()
        state.setdefault(index[id(weights[name])], {})[entry] = part
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def _rng_tensors(device: torch.device) -> dict[str, Tensor]:
    tensors = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    return tensors

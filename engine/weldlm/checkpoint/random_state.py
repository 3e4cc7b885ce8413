"""Torch's random generators, as a file of a checkpoint."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

__all__ = ["restore_random_state", "write_random_state"]


def write_random_state(path: Path, device: torch.device) -> None:
    """Writes where the generators of the host and of `device` stand."""
    tensors = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    save_file(tensors, path)


def restore_random_state(path: Path, device: torch.device) -> None:
    """Sets them to what `write_random_state` wrote."""
    generators = load_file(path)
    torch.set_rng_state(generators["cpu"])
    if device.type == "cuda" and "cuda" in generators:
        torch.cuda.set_rng_state(generators["cuda"], device)

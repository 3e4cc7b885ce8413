"""What a training step really did: tokens, padding, arithmetic, memory.

Shared by the callbacks for the Trainers of transformers and Lightning. Counts stay on the device
until a step is reported, so that counting does not synchronize.
"""

import re
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["StepMeter", "flops_per_token"]

_STATUS = Path("/proc/self/status")


@dataclass(slots=True)
class StepMeter:
    """Counts the batches of the steps since the last report."""

    flops_per_token: float
    peak_flops: float | None = None  # of the device, a second; no MFU without it
    _begin: float = 0.0
    _real: int | Tensor = 0
    _places: int = 0

    def start(self) -> None:
        self._begin, self._real, self._places = time.perf_counter(), 0, 0

    def count(self, batch: Mapping[str, Any]) -> None:
        """Adds the tokens of a batch: of the encoder, and of the decoder where there is one."""
        for prefix in ("", "decoder_"):
            mask: Tensor | None = batch.get(f"{prefix}attention_mask")
            ids: Tensor | None = batch.get(f"{prefix}input_ids")
            ids = batch.get(f"{prefix}inputs_embeds") if ids is None else ids
            # a decoder makes its ids from the labels where there are none
            shown = mask if ids is None else ids
            if shown is None:
                continue
            places = shown.shape[0] * shown.shape[1]
            is_padded = mask is not None and mask.shape == shown.shape[:2]
            self._places += places
            self._real = self._real + (
                (mask != 0).sum() if is_padded and mask is not None else places
            )

    def report(self, device: torch.device) -> dict[str, float]:
        """Rates since `start` or the last report, which it starts again."""
        real = int(self._real)  # waits for the device, so the time is that of the work
        seconds = time.perf_counter() - self._begin
        places = max(self._places, 1)
        report = {
            "tokens_per_second": real / seconds,
            "padding_share": 1 - real / places if self._places else 0.0,
            "peak_memory_gib": peak_memory(device) / 2**30,
        }
        if self.peak_flops is not None:
            report["mfu"] = real / seconds * self.flops_per_token / self.peak_flops
        self.start()
        return report


def flops_per_token(model: nn.Module) -> float:
    """Six for each weight that is multiplied with a token: two forward, four backward.

    Attention between tokens is left out, so that it does not depend on lengths.
    """
    weights = {
        id(weight): weight.numel()
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for weight in module.parameters(recurse=False)
        if weight.dim() >= 2
    }
    return 6.0 * sum(weights.values())


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: of the GPU's tensors, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.exists():  # ru_maxrss would begin with the size of the program that started this one
        found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

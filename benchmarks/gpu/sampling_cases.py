"""sampling on a GPU, against a sort."""

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu.case import Check, Cost, Goal, Pass, Timing, Work
from weldlm_kernels import sample

__all__ = ["checks", "timings"]

ROWS, VOCAB_SIZE = 64, 128_256
BYTES = 2  # of a bfloat16
TOP_K, TOP_P, TEMPERATURE = 50, 0.9, 0.8


def checks() -> Iterator[Check]:
    yield Check("sampling top-k and top-p", lambda dtype, device: _make(7, 1_003, dtype, device))


def timings() -> Iterator[Timing]:
    def make(dtype: torch.dtype, device: torch.device, is_tiny: bool) -> Work:
        return _make(*((2, 128) if is_tiny else (ROWS, VOCAB_SIZE)), dtype, device)

    cost = Cost(0, ROWS * VOCAB_SIZE * BYTES)
    passes = (Pass("forward", cost, Goal("ms", 0.060, 0.040)),)
    yield Timing(f"sampling {ROWS} x {VOCAB_SIZE}", make, passes)


def _make(rows: int, vocab_size: int, dtype: torch.dtype, device: torch.device) -> Work:
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.randn(rows, vocab_size, generator=generator, device=device).to(dtype)
    settings = {
        "temperature": torch.full((rows,), TEMPERATURE, device=device),
        "top_k": torch.full((rows,), TOP_K, device=device),
        "top_p": torch.full((rows,), TOP_P, device=device),
        "seeds": torch.arange(rows, device=device),
        "positions": torch.arange(rows, device=device),
    }

    def ours(logits: Tensor) -> Tensor:
        # those of the drawn tokens, so that another token shows
        return sample(logits.detach(), **settings)[1].to(logits.dtype)

    return Work({"logits": logits}, ours, companions={"sort and multinomial": _sorted})


def _sorted(logits: Tensor) -> Tensor:
    """As transformers does it: the whole row is sorted, and cut by rank and cumulated mass."""
    values, ids = (logits.float() / TEMPERATURE).sort(descending=True)
    probabilities = values.softmax(-1)
    is_cut = probabilities.cumsum(-1) - probabilities >= TOP_P
    is_cut[:, TOP_K:] = True
    drawn = probabilities.masked_fill(is_cut, 0.0).multinomial(1)
    return ids.gather(-1, drawn)

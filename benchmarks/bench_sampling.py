"""sampling on a CPU, against our reference, which sorts.

python -m pytest benchmarks/bench_sampling.py --benchmark-enable
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from benchmarks.compare import Comparison
from weldlm_kernels import sample, use_backend
from weldlm_kernels.backend import Backend

__all__ = ["comparisons"]

VOCAB_SIZE = 50257
KINDS: dict[str, dict[str, float]] = {
    "top-k 50, top-p 0.9": {"top_k": 50, "top_p": 0.9},
    "top-p 0.9": {"top_p": 0.9},
    "no filter": {},
}
Side = Callable[[], tuple[Tensor, Tensor]]


def draw(backend: Backend, logits: Tensor, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    with use_backend(backend):
        return sample(logits, **arguments)


def checked_sides(kind: str, rows: int) -> dict[Backend, Side]:
    """The compiled path and the reference, which draw the same tokens."""
    logits = 3 * torch.randn(rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(0))
    arguments: dict[str, Any] = {
        name: torch.full((rows,), value) for name, value in (KINDS[kind]).items()
    }
    arguments |= {"temperature": torch.full((rows,), 0.8)}
    arguments |= {"seeds": torch.arange(rows), "positions": torch.arange(rows)}
    backends: tuple[Backend, ...] = ("cpu", "reference")
    sides: dict[Backend, Side] = {name: partial(draw, name, logits, arguments) for name in backends}
    assert torch.equal(sides["cpu"]()[0], sides["reference"]()[0])
    return sides


def comparisons() -> Iterator[Comparison]:
    for kind in KINDS:
        for rows in (1, 16):
            sides = checked_sides(kind, rows)
            work = f"sample from {rows} x {VOCAB_SIZE}, {kind}"
            yield Comparison(work, "our reference path", sides["cpu"], sides["reference"])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("kind", KINDS)
def test_draw(benchmark: BenchmarkFixture, kind: str, backend: Backend) -> None:
    benchmark.group = kind

    benchmark(checked_sides(kind, 16)[backend])

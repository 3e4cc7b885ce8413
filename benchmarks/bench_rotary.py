"""rotary and write_kv on a CPU, against the same in plain PyTorch.

python -m pytest benchmarks/bench_rotary.py --benchmark-enable
"""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from benchmarks.compare import Comparison
from weldlm_kernels import rotary, use_backend, write_kv
from weldlm_kernels.backend import Backend

__all__ = ["comparisons"]

SHAPES = [(1, 36, 64), (32, 36, 64), (2048, 16, 64)]  # tokens, heads of q and k, head_dim
CONTEXT_LENGTH, NUM_KV_HEADS, BLOCK_SIZE = 2048, 4, 16
Side = Callable[[], object]


def on(backend: Backend, call: Callable[..., object], *arguments: object) -> object:
    with use_backend(backend):
        return call(*arguments)


def rotations(shape: tuple[int, int, int]) -> dict[Backend, Side]:
    """Rotations of q and k as slices of a projection, of which the results are equal."""
    tokens, num_heads, head_dim = shape
    x = torch.randn(tokens, num_heads + NUM_KV_HEADS, head_dim)[:, :num_heads]
    angles = torch.randn(CONTEXT_LENGTH, head_dim // 2)
    positions = torch.arange(tokens)
    arguments = x, angles.cos(), angles.sin(), positions
    backends: tuple[Backend, ...] = ("cpu", "reference")
    sides: dict[Backend, Side] = {name: partial(on, name, rotary, *arguments) for name in backends}
    torch.testing.assert_close(sides["cpu"](), sides["reference"]())
    return sides


def writes(tokens: int, cache_dtype: torch.dtype) -> dict[Backend, Side]:
    """Writes of new keys and values, of which the results are equal."""
    shape = (CONTEXT_LENGTH // BLOCK_SIZE, BLOCK_SIZE, NUM_KV_HEADS)
    k, v = torch.randn(2, tokens, NUM_KV_HEADS, 64)
    slots = torch.randperm(CONTEXT_LENGTH)[:tokens]
    sides: dict[Backend, Side] = {}
    written: list[tuple[Tensor, ...]] = []
    backends: tuple[Backend, ...] = ("cpu", "reference")
    for backend in backends:
        caches = [torch.zeros(*shape, 64, dtype=cache_dtype) for _ in range(2)]
        scales = None if cache_dtype == torch.float32 else [torch.zeros(shape) for _ in range(2)]
        call = partial(
            write_kv,
            k,
            v,
            *caches,
            slots,
            key_scale=None if scales is None else scales[0],
            value_scale=None if scales is None else scales[1],
        )
        sides[backend] = partial(on, backend, call)
        sides[backend]()
        written.append(tuple(caches))
    torch.testing.assert_close(*written)
    return sides


def all_sides() -> Iterator[tuple[str, dict[Backend, Side]]]:
    for shape in SHAPES:
        yield f"rotary {shape}", rotations(shape)
    for tokens in (32, 1024):
        yield f"write_kv, {tokens} tokens, fp32", writes(tokens, torch.float32)
        yield f"write_kv, {tokens} tokens, int8", writes(tokens, torch.int8)


def comparisons() -> Iterator[Comparison]:
    for work, sides in all_sides():
        yield Comparison(work, "plain PyTorch", sides["cpu"], sides["reference"])


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rotation(
    benchmark: BenchmarkFixture, shape: tuple[int, int, int], backend: Backend
) -> None:
    benchmark.group = str(shape)

    benchmark(rotations(shape)[backend])

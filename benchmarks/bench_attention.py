"""attention on a CPU, forward and backward, against torch's on padded input and our reference.

python -m pytest benchmarks/bench_attention.py --benchmark-enable
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from benchmarks.compare import Comparison
from weldlm_kernels import attention, use_backend
from weldlm_kernels.backend import Backend

__all__ = ["comparisons"]


@dataclass(frozen=True, slots=True)
class Size:
    lengths: tuple[int, ...]
    is_causal: bool = True
    num_heads: int = 12
    num_kv_heads: int = 12
    head_dim: int = 64
    has_bias: bool = False  # by distance, as in T5; torch has no such attention on packed rows


SIZES = {
    "full-rows": Size((512,) * 4),
    "full-rows-grouped-heads": Size((512,) * 4, num_kv_heads=3),
    "encoder-full-rows": Size((128,) * 16, is_causal=False),
    "ragged": Size((17, 33, 48, 64, 90, 128, 200, 256) * 2),
    "encoder-ragged": Size((17, 33, 48, 64, 90, 128, 200, 256) * 2, is_causal=False),
    "one-long-many-short": Size((1000,) + (30,) * 30),
    "full-rows-relative-bias": Size((512,) * 4, has_bias=True),
    "encoder-ragged-relative-bias": Size(
        (17, 33, 48, 64, 90, 128, 200, 256) * 2, is_causal=False, has_bias=True
    ),
}
Step = Callable[[], tuple[Tensor, ...]]  # out and the gradients of q, k and v


def packed(size: Size, inputs: list[Tensor], backend: Backend) -> Step:
    q, k, v, grad_out = inputs
    offsets = torch.tensor([0, *size.lengths]).cumsum(0).int()
    longest = max(size.lengths)
    bias = torch.linspace(-1, 1, 32 * size.num_heads).view(32, -1) if size.has_bias else None

    def step() -> tuple[Tensor, ...]:
        with use_backend(backend):
            out, _ = attention(
                q,
                k,
                v,
                q_offsets=offsets,
                k_offsets=offsets,
                q_max_length=longest,
                k_max_length=longest,
                is_causal=size.is_causal,
                relative_bias=bias,
                relative_bias_is_bidirectional=not size.is_causal,
            )
            return out, *torch.autograd.grad(out, (q, k, v), grad_out)

    return step


def padded(size: Size, inputs: list[Tensor]) -> Step:
    """torch's attention; inputs are padded and the mask is made before the clock starts."""
    rows = [pad_sequence(x.detach().split(size.lengths), True).transpose(1, 2) for x in inputs]
    q, k, v, grad_out = (x.requires_grad_() for x in rows)  # [B, H, S, D]
    mask = None if len(set(size.lengths)) == 1 else padding_mask(size)

    def step() -> tuple[Tensor, ...]:
        out = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=size.is_causal and mask is None,
            enable_gqa=size.num_heads != size.num_kv_heads,
        )
        return out, *torch.autograd.grad(out, (q, k, v), grad_out)

    return step


def padding_mask(size: Size) -> Tensor:
    """[B, 1, S, S], true where a token sees a key."""
    position = torch.arange(max(size.lengths))
    mask = position < torch.tensor(size.lengths)[:, None, None, None]
    return mask & (position <= position[:, None]) if size.is_causal else mask


def unpadded(size: Size, results: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """[B, H, S, D] -> [T, H, D]."""
    return tuple(
        torch.cat([row[:, :n].transpose(0, 1) for row, n in zip(x, size.lengths, strict=True)])
        for x in results
    )


def checked_steps(size: Size) -> dict[str, Step]:
    """The sides, of which the results are equal."""
    torch.manual_seed(0)
    heads = (size.num_heads, size.num_kv_heads, size.num_kv_heads, size.num_heads)
    *leaves, grad_out = (torch.randn(sum(size.lengths), n, size.head_dim) for n in heads)
    inputs = [*(x.requires_grad_() for x in leaves), grad_out]
    steps = {
        "weldlm": packed(size, inputs, "cpu"),
        "reference": packed(size, inputs, "reference"),
    }
    expected = steps["reference"]()
    torch.testing.assert_close(steps["weldlm"](), expected, rtol=1e-4, atol=1e-4)
    if size.has_bias:
        return steps
    steps["torch"] = padded(size, inputs)
    torch.testing.assert_close(unpadded(size, steps["torch"]()), expected, rtol=1e-4, atol=1e-4)
    return steps


def comparisons() -> Iterator[Comparison]:
    for name, size in SIZES.items():
        steps = checked_steps(size)
        fill = sum(size.lengths) / len(size.lengths) / max(size.lengths)
        work = f"attention forward and backward, {name} (fill {fill:.2f})"
        if "torch" in steps:
            yield Comparison(work, "torch SDPA, padded", steps["weldlm"], steps["torch"])
        yield Comparison(work, "our reference path", steps["weldlm"], steps["reference"])


@pytest.mark.parametrize("side", ["weldlm", "reference", "torch"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_forward_and_backward(benchmark: BenchmarkFixture, size: Size, side: str) -> None:
    steps = checked_steps(size)
    if side not in steps:
        pytest.skip("torch has no relative bias on packed rows")
    benchmark.group = str(size)
    benchmark.extra_info["threads"] = torch.get_num_threads()

    benchmark(steps[side])

"""linear_cross_entropy on a CPU, forward and backward, against logits and F.cross_entropy.

python -m pytest benchmarks/bench_linear_cross_entropy.py --benchmark-enable
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from benchmarks.compare import Comparison
from weldlm_kernels import linear_cross_entropy, use_backend
from weldlm_kernels.linear_cross_entropy import reference
from weldlm_kernels.linear_cross_entropy.options import LossOptions

__all__ = ["comparisons"]


@dataclass(frozen=True, slots=True)
class Size:
    num_rows: int
    vocab_size: int
    hidden_size: int
    labelled: float = 1.0  # share of rows with a label


SIZES = {
    "gpt2-vocabulary": Size(512, 50257, 256),
    "small-vocabulary": Size(2048, 4096, 256),
    "masked-language-model": Size(512, 30522, 256, labelled=0.15),
}
Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


def fused(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    with use_backend("cpu"):
        loss_sum, _ = linear_cross_entropy(hidden, weight, targets)
        return loss_sum, *torch.autograd.grad(loss_sum, (hidden, weight))


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    loss_sum, *_ = reference.linear_cross_entropy(
        hidden, weight, None, targets, None, LossOptions()
    )
    return loss_sum, *torch.autograd.grad(loss_sum, (hidden, weight))


def inputs(size: Size) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(size.num_rows, size.hidden_size, requires_grad=True)
    weight = torch.randn(size.vocab_size, size.hidden_size).mul_(size.hidden_size**-0.5)
    targets = torch.randint(0, size.vocab_size, (size.num_rows,))
    targets[torch.rand(size.num_rows) >= size.labelled] = -100
    return hidden, weight.requires_grad_(), targets


def comparisons() -> Iterator[Comparison]:
    for name, size in SIZES.items():
        arguments = inputs(size)
        torch.testing.assert_close(fused(*arguments), plain(*arguments), rtol=1e-5, atol=1e-5)
        rows = f"{size.num_rows} x {size.vocab_size} x {size.hidden_size}"
        yield Comparison(
            f"linear_cross_entropy forward and backward, {name} ({rows})",
            "F.cross_entropy(h @ W.T)",
            partial(fused, *arguments),
            partial(plain, *arguments),
        )


@pytest.mark.parametrize("step", [fused, plain])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_forward_and_backward(benchmark: BenchmarkFixture, size: Size, step: Step) -> None:
    arguments = inputs(size)
    benchmark.group = str(size)
    benchmark.extra_info["threads"] = torch.get_num_threads()

    torch.testing.assert_close(step(*arguments), plain(*arguments), rtol=1e-5, atol=1e-5)
    benchmark(step, *arguments)

"""linear_cross_entropy and linear_kl_divergence on a GPU."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.case import Check, Cost, Goal, Pass, Timing, Work
from weldlm_kernels import linear_cross_entropy, linear_kl_divergence

__all__ = ["checks", "timings"]

BYTES = 2  # of a bfloat16
# rows, width, vocabulary
CHECKED = {"odd": (67, 96, 1_003), "gpt2": (300, 64, 50_257)}
TIMED = {
    "8192 x 4096 x 131072": ((8_192, 4_096, 131_072), Goal("ms", 45, 36)),
    "8192 x 768 x 50257": ((8_192, 768, 50_257), None),
}
IGNORED = -100
OPTIONS: dict[str, Any] = {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 5.0}


def checks() -> Iterator[Check]:
    for name, size in CHECKED.items():
        yield Check(f"linear_cross_entropy {name}", partial(_make, size, 0.3))
        yield Check(f"linear_kl_divergence {name}", partial(_make_divergence, size))
    yield Check("linear_cross_entropy options", _make_with_options)


def timings() -> Iterator[Timing]:
    for name, (size, goal) in TIMED.items():
        rows, width, vocab_size = size
        weight, hidden = vocab_size * width * BYTES, rows * width * BYTES

        def make(
            dtype: torch.dtype,
            device: torch.device,
            is_tiny: bool,
            size: tuple[int, int, int] = size,
        ) -> Work:
            return _make((16, 32, 128) if is_tiny else size, 0.0, dtype, device)

        # three products: logits, and the gradients of rows and weight
        cost = Cost(6 * rows * width * vocab_size, 3 * weight + 2 * hidden)
        passes = (Pass("forward and backward", cost, goal),)
        yield Timing(f"linear_cross_entropy {name}", make, passes)


def _make(
    size: tuple[int, int, int],
    ignored_share: float,
    dtype: torch.dtype,
    device: torch.device,
) -> Work:
    rows, width, vocab_size = size
    generator = torch.Generator(device).manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator, device=device)
    weight = torch.randn(vocab_size, width, generator=generator, device=device) * width**-0.5
    targets = torch.randint(vocab_size, (rows,), generator=generator, device=device)
    targets[torch.rand(rows, generator=generator, device=device) < ignored_share] = IGNORED
    inputs: dict[str, Tensor | None] = {
        "hidden": hidden.to(dtype),
        "weight": weight.to(dtype),
        "targets": targets,
    }
    peers: dict[str, Callable[..., Any]] = {"eager": _eager}
    if device.type == "cuda":
        peers["torch.compile"] = torch.compile(_eager)
        if find_spec("liger_kernel") is not None:
            peers["Liger"] = _liger
    return Work(inputs, lambda **given: linear_cross_entropy(**given)[0], peers)


def _make_divergence(size: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Work:
    rows, width, vocab_size = size
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(dtype)

    inputs: dict[str, Tensor | None] = {
        "student_hidden": random(rows, width),
        "student_weight": random(vocab_size, width) * width**-0.5,
        "teacher_hidden": random(rows, 2 * width),
        "teacher_weight": random(vocab_size, 2 * width) * (2 * width) ** -0.5,
    }
    return Work(inputs, lambda **given: linear_kl_divergence(**given, temperature=2.0)[0])


def _make_with_options(dtype: torch.dtype, device: torch.device) -> Work:
    inputs = _make(CHECKED["odd"], 0.3, dtype, device).inputs
    targets = inputs["targets"]
    assert targets is not None
    row_weights = torch.linspace(-1, 2, len(targets), device=device)

    def ours(**given: Any) -> Any:
        return linear_cross_entropy(**given, row_weights=row_weights, **OPTIONS)[0]

    return Work(inputs, ours)


def _eager(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight).float()
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def _liger(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    return liger_fused_linear_cross_entropy(  # type: ignore[no-any-return]
        hidden, weight, targets, ignore_index=IGNORED, reduction="sum"
    )

"""linear_kl_divergence on a GPU."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.case import Check, Cost, Pass, Timing, Work
from weldlm_kernels import linear_kl_divergence

__all__ = ["checks", "timings"]

BYTES = 2  # of a bfloat16
# rows, width of the student, width of the teacher, vocabulary
Size = tuple[int, int, int, int]
CHECKED: dict[str, Size] = {"odd": (67, 64, 96, 1_003), "gpt2": (20, 32, 64, 50_257)}
TIMED: dict[str, Size] = {"8192 x 2048, 4096 x 131072": (8_192, 2_048, 4_096, 131_072)}
TEMPERATURE = 2.0


def checks() -> Iterator[Check]:
    for name, size in CHECKED.items():
        yield Check(f"linear_kl_divergence {name}", partial(_make_checked, size))


def timings() -> Iterator[Timing]:
    for name, size in TIMED.items():
        rows, width, teacher_width, vocab_size = size

        def make(
            dtype: torch.dtype, device: torch.device, is_tiny: bool, size: Size = size
        ) -> Work:
            return _make_timed((16, 32, 64, 128) if is_tiny else size, dtype, device)

        # the logits of both, and the gradients of the student's rows and weight
        cost = Cost(
            (6 * width + 2 * teacher_width) * rows * vocab_size,
            (3 * width + teacher_width) * vocab_size * BYTES
            + (2 * width + teacher_width) * rows * BYTES,
        )
        passes = (Pass("forward and backward", cost),)
        yield Timing(f"linear_kl_divergence {name}", make, passes)


def _make_checked(size: Size, dtype: torch.dtype, device: torch.device) -> Work:
    tensors = _tensors(size, dtype, device)
    mask = torch.arange(size[0], device=device) % 3 != 1

    def ours(**given: Any) -> Tensor:
        return linear_kl_divergence(**given, temperature=TEMPERATURE, mask=mask)[0]

    return Work({**tensors}, ours)


def _make_timed(size: Size, dtype: torch.dtype, device: torch.device) -> Work:
    tensors = _tensors(size, dtype, device)
    # no input: it gets no gradient
    teacher = {name: tensors.pop(name) for name in ("teacher_hidden", "teacher_weight")}

    def ours(**student: Tensor) -> Tensor:
        return linear_kl_divergence(**student, **teacher, temperature=TEMPERATURE)[0]

    eager = partial(_eager, **teacher)
    peers: dict[str, Callable[..., Any]] = {"eager": eager}
    if device.type == "cuda":
        peers["torch.compile"] = torch.compile(eager)
    return Work({**tensors}, ours, peers)


def _tensors(size: Size, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    rows, width, teacher_width, vocab_size = size
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    return {
        "student_hidden": random(rows, width).to(dtype),
        "student_weight": (random(vocab_size, width) * width**-0.5).to(dtype),
        "teacher_hidden": random(rows, teacher_width).to(dtype),
        "teacher_weight": (random(vocab_size, teacher_width) * teacher_width**-0.5).to(dtype),
    }


def _eager(
    student_hidden: Tensor, student_weight: Tensor, teacher_hidden: Tensor, teacher_weight: Tensor
) -> Tensor:
    log_q, log_p = (
        (functional.linear(hidden, weight).float() / TEMPERATURE).log_softmax(dim=1)
        for hidden, weight in (
            (student_hidden, student_weight),
            (teacher_hidden, teacher_weight),
        )
    )
    return functional.kl_div(log_q, log_p, reduction="sum", log_target=True)

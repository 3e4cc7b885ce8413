from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import interpret
from tests.kernels.oracle import assert_equals_reference, outputs_and_gradients
from weldlm_kernels import _cpu, rms_norm, use_backend
from weldlm_kernels.backend import Backend

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# a row of one element, primes, tiles +-1, the widest tile + 1, no rows
SHAPES = [(1, 1), (3, 7), (2, 3, 65), (17, 127), (9, 128), (5, 129), (2, 4095), (3, 8193), (0, 16)]
VARIANTS = ["plain", "residual"]


def make_inputs(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    *,
    variant: str = "residual",
    stream_dtype: torch.dtype | None = None,
    weight_dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(sum(shape))

    def random(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    weight_dtype = weight_dtype or dtype
    return {
        "x": random(shape, dtype) + 1,
        "weight": random(shape[-1:], weight_dtype),
        "residual": random(shape, stream_dtype or dtype) if "residual" in variant else None,
    }


@pytest.fixture(params=_cpu.available_instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    previous = _cpu.instruction_set()
    _cpu.force_instruction_set(request.param)
    yield request.param
    _cpu.force_instruction_set(previous)


@pytest.mark.parametrize("variant", VARIANTS)
def test_reference_is_torch_rms_norm(variant: str) -> None:
    inputs = make_inputs((5, 33), torch.float64, variant=variant)
    x, residual = inputs["x"], inputs["residual"]

    with use_backend("reference"):
        result = rms_norm(**inputs, eps=1e-3)

    s = x if residual is None else x + residual
    expected = torch.nn.functional.rms_norm(s, (33,), inputs["weight"], 1e-3)
    torch.testing.assert_close(result, expected if residual is None else (expected, s))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gpu_equals_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_equals_reference(rms_norm, make_inputs(shape, dtype), backend="gpu")


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cpu_equals_reference(shape: tuple[int, ...]) -> None:
    assert_equals_reference(rms_norm, make_inputs(shape, torch.float32), backend="cpu")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_residual_is_optional(backend: Backend, variant: str) -> None:
    inputs = make_inputs((37, 50), torch.float32, variant=variant)

    assert_equals_reference(rms_norm, inputs, backend=backend)


def test_wide_rows_take_no_residual() -> None:
    inputs = make_inputs((2, 9001), torch.bfloat16, variant="plain")

    assert_equals_reference(rms_norm, inputs, backend="gpu")


def test_reference_adds_the_offset_to_the_weight() -> None:
    inputs = make_inputs((5, 33), torch.float64)

    with use_backend("reference"):
        y, s = rms_norm(**inputs, eps=1e-3, weight_offset=1.0)

    expected = torch.nn.functional.rms_norm(s, (33,), 1 + inputs["weight"], 1e-3)
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("shape", [(5, 129), (2, 8193)], ids=str)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_offset_weight_equals_reference(backend: Backend, shape: tuple[int, ...]) -> None:
    offset = partial(rms_norm, weight_offset=1.0)

    assert_equals_reference(offset, make_inputs(shape, torch.float32), backend=backend)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_offset_keeps_the_digits_of_a_16_bit_weight(backend: Backend) -> None:
    inputs = make_inputs((5, 65), torch.float32, weight_dtype=torch.bfloat16)
    inputs["weight"] = inputs["weight"] / 1024  # 1 + weight in bfloat16 is 1

    assert_equals_reference(partial(rms_norm, weight_offset=1.0), inputs, backend=backend)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(5, 129), (2, 8193)], ids=str)
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_weight_is_optional(backend: Backend, shape: tuple[int, ...], variant: str) -> None:
    inputs = make_inputs(shape, torch.float32, variant=variant) | {"weight": None}

    assert_equals_reference(rms_norm, inputs, backend=backend)


def test_offset_without_a_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weight_offset is 1.0 without a weight; expected 0.0"):
        rms_norm(torch.ones(2, 8), weight_offset=1.0)


def test_rows_of_65537_equal_reference() -> None:
    assert_equals_reference(rms_norm, make_inputs((1, 65537), torch.bfloat16), backend="gpu")


@pytest.mark.parametrize(
    ("backend", "dtype", "stream_dtype"),
    [
        ("gpu", torch.bfloat16, torch.float32),
        ("gpu", torch.float32, torch.bfloat16),
        ("cpu", torch.float32, torch.bfloat16),
    ],
)
def test_stream_keeps_its_own_dtype(
    backend: Backend, dtype: torch.dtype, stream_dtype: torch.dtype
) -> None:
    inputs = make_inputs((6, 100), dtype, stream_dtype=stream_dtype, weight_dtype=torch.float32)

    assert_equals_reference(rms_norm, inputs, backend=backend)


@pytest.mark.parametrize("scale", [1e-4, 1e4], ids=["below-eps", "large"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_squares_of_16_bit_values_neither_overflow_nor_vanish(
    dtype: torch.dtype, scale: float
) -> None:
    inputs = make_inputs((4, 1000), torch.float32, variant="plain")
    inputs = {"x": (inputs["x"] * scale).to(dtype), "weight": inputs["weight"].to(dtype)}

    assert_equals_reference(rms_norm, inputs, backend="gpu")


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("stream_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_normalized_is_the_stream_as_it_is_returned(
    backend: Backend, stream_dtype: torch.dtype
) -> None:
    inputs = make_inputs((5, 300), torch.float32, stream_dtype=stream_dtype)

    with interpret(), use_backend(backend):
        y, stream = rms_norm(**inputs)
        alone = rms_norm(**inputs | {"x": stream.float(), "residual": None})

    torch.testing.assert_close(y, alone, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_inputs_need_not_be_contiguous(backend: Backend) -> None:
    inputs = make_inputs((6, 4, 70), torch.float32)
    inputs = {name: x.transpose(0, -1)[::2].transpose(0, -1) for name, x in inputs.items()}

    assert_equals_reference(rms_norm, inputs, backend=backend)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_gradients_need_not_be_contiguous(backend: Backend) -> None:
    def transposed(**inputs: Any) -> tuple[Tensor, ...]:
        return tuple(output.transpose(0, 1) for output in rms_norm(**inputs))

    assert_equals_reference(transposed, make_inputs((6, 4, 20), torch.float32), backend=backend)


@pytest.mark.parametrize("used", [0, 1], ids=["only-y", "only-stream"])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_one_output_may_go_unused(backend: Backend, used: int) -> None:
    def one_output(**inputs: Any) -> Any:
        return rms_norm(**inputs)[used]

    assert_equals_reference(one_output, make_inputs((4, 33), torch.float32), backend=backend)


@pytest.mark.parametrize("num_rows", [31, 32, 65, 1000])
def test_cpu_gradients_do_not_depend_on_threads(num_rows: int) -> None:
    inputs = make_inputs((num_rows, 300), torch.float32)
    num_threads = torch.get_num_threads()

    torch.set_num_threads(1)
    alone = outputs_and_gradients(rms_norm, inputs, backend="cpu")
    torch.set_num_threads(3)
    shared = outputs_and_gradients(rms_norm, inputs, backend="cpu")
    torch.set_num_threads(num_threads)

    torch.testing.assert_close(shared, alone, rtol=0, atol=0)


def test_inference_equals_training() -> None:
    inputs = make_inputs((7, 100), torch.float32)
    trained = outputs_and_gradients(rms_norm, inputs, backend="cpu")

    with torch.inference_mode(), use_backend("cpu"):
        y, stream = rms_norm(**inputs)

    torch.testing.assert_close((y, stream), (trained["output 0"], trained["output 1"]))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("weight", (3,), r"weight \(3,\) does not fit .* expected \(8,\)"),
        ("residual", (1, 8), r"residual \(1, 8\) does not fit x \(2, 8\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(name: str, shape: tuple[int, ...], message: str) -> None:
    inputs = make_inputs((2, 8), torch.float32) | {name: torch.zeros(shape)}

    with pytest.raises(ValueError, match=message):
        rms_norm(**inputs)


@pytest.mark.parametrize("eps", [-1e-5, float("nan")])
def test_eps_below_zero_is_refused(eps: float) -> None:
    inputs = make_inputs((2, 8), torch.float32)

    with pytest.raises(ValueError, match=rf"eps is {eps}; expected 0 or more"):
        rms_norm(**inputs, eps=eps)

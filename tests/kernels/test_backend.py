from collections.abc import Iterator

import pytest
import torch

from tests.kernels.interpreter import interpret
from weldlm_kernels import backend, explain, layer_norm, use_backend

OF_CPU = {
    "attention",
    "layer_norm",
    "rms_norm",
    "linear_cross_entropy",
    "linear_kl_divergence",
    "gated_mlp",
    "paged_attention",
    "linear",
    "quantized_linear",
    "rotary",
    "sampling",
    "write_kv",
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The optional modules that exist; a test takes away from them."""
    modules = {"triton", "weldlm_kernels._cpu"}
    monkeypatch.setattr(backend, "_is_installed", modules.__contains__)
    backend._automatic.cache_clear()
    yield modules
    backend._automatic.cache_clear()


def choices(device: str, dtype: torch.dtype) -> dict[str, str]:
    return {choice.op: choice.backend for choice in explain(device, dtype)}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_gpu_tensors_take_triton(dtype: torch.dtype) -> None:
    found = choices("cuda", dtype)

    # a plain linear layer is torch's own there
    assert found.pop("linear") == "reference"
    assert set(found.values()) == {"gpu"}


@pytest.mark.usefixtures("installed")
def test_fp32_on_a_cpu_takes_its_own_path_where_that_is_better() -> None:
    found = choices("cpu", torch.float32)

    assert found == dict.fromkeys(OF_CPU, "cpu")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cuda", torch.float64),
        ("cpu", torch.float64),
        ("mps", torch.float32),
    ],
)
def test_anything_else_takes_the_reference(device: str, dtype: torch.dtype) -> None:
    assert set(choices(device, dtype).values()) == {"reference"}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_alone_is_compiled_for_16_bits_on_a_cpu(dtype: torch.dtype) -> None:
    found = choices("cpu", dtype)

    assert {op for op, taken in found.items() if taken == "cpu"} == {"attention"}


@pytest.mark.parametrize(
    ("missing", "device", "advice"),
    [("triton", "cuda", "pip install triton"), ("weldlm_kernels._cpu", "cpu", "pip install .")],
)
def test_automatic_choice_falls_back_and_says_why(
    installed: set[str], missing: str, device: str, advice: str
) -> None:
    installed.discard(missing)

    (choice,) = [choice for choice in explain(device) if choice.op == "layer_norm"]

    assert choice.backend == "reference"
    assert advice in choice.reason


def test_chunks_of_rows_need_no_extension(installed: set[str]) -> None:
    installed.discard("weldlm_kernels._cpu")

    assert choices("cpu", torch.float32)["linear_kl_divergence"] == "cpu"


def test_explained_backend_is_the_one_taken(installed: set[str]) -> None:
    installed.discard("weldlm_kernels._cpu")

    taken = backend.choose("layer_norm", torch.zeros(1))

    assert taken == choices("cpu", torch.float32)["layer_norm"] == "reference"


@pytest.mark.parametrize(
    ("forced", "dtype", "message"),
    [
        ("gpu", torch.float32, r"layer_norm was forced onto the gpu .* is on cpu; .*\.cuda\(\)"),
        ("cpu", torch.float64, r"forced onto the cpu backend, but torch.float64 .* use float32"),
        ("cpu", torch.bfloat16, r"torch.bfloat16 has no compiled path"),
    ],
)
def test_forcing_what_cannot_run_raises(forced: str, dtype: torch.dtype, message: str) -> None:
    x, weight = torch.zeros(2, 4, dtype=dtype), torch.zeros(4, dtype=dtype)

    with use_backend(forced), pytest.raises(RuntimeError, match=message):  # type: ignore[arg-type]
        layer_norm(x, weight)


@pytest.mark.parametrize(
    ("missing", "forced", "advice"),
    [("triton", "gpu", "pip install triton"), ("weldlm_kernels._cpu", "cpu", r"pip install \.")],
)
def test_forcing_what_is_not_installed_says_how_to_get_it(
    installed: set[str], missing: str, forced: str, advice: str
) -> None:
    installed.discard(missing)

    with use_backend(forced), pytest.raises(RuntimeError, match=advice):  # type: ignore[arg-type]
        layer_norm(torch.zeros(2, 4), torch.zeros(4))


def test_forcing_triton_on_fp64_raises_in_the_interpreter() -> None:
    x, weight = torch.zeros(2, 4).double(), torch.zeros(4)

    with (
        interpret(),
        use_backend("gpu"),
        pytest.raises(RuntimeError, match="float64 has no kernel"),
    ):
        layer_norm(x, weight)


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="'cuda'; expected 'reference', 'cpu' or 'gpu'"):
        use_backend("cuda").__enter__()  # type: ignore[arg-type]


def test_choice_is_automatic_again_after_an_error() -> None:
    before = backend.choose("layer_norm", torch.zeros(1))

    with pytest.raises(ZeroDivisionError), use_backend("reference"):
        _ = 1 / 0

    assert backend.choose("layer_norm", torch.zeros(1)) == before


def test_nested_choice_ends_with_its_block() -> None:
    with use_backend("reference"):
        with use_backend("cpu"):
            pass
        outer = backend.choose("layer_norm", torch.zeros(1))

    assert outer == "reference"

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.engine.tiny_models import tiny_config
from tests.kernels.oracle import assert_equals_reference
from weldlm.layers import Mlp
from weldlm_kernels import use_backend
from weldlm_kernels.backend import Backend


def tiny_mlp(name: str) -> Mlp:
    torch.manual_seed(0)
    return Mlp(tiny_config(name))


def test_mlp_of_the_reference_has_the_bits_of_pytorch() -> None:
    mlp, x = tiny_mlp("gpt2-tiny"), torch.randn(5, 32)

    with use_backend("reference"):
        y = mlp(x)

    assert torch.equal(y, mlp.down(functional.gelu(mlp.up(x), approximate="tanh")))


def test_gated_mlp_of_the_reference_has_the_bits_of_pytorch() -> None:
    mlp, x = tiny_mlp("llama-tiny"), torch.randn(5, 32)

    with use_backend("reference"):
        y = mlp(x)

    gate, up = mlp.up(x).chunk(2, dim=-1)
    assert torch.equal(y, mlp.down(functional.silu(gate) * up))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize("name", ["gpt2-tiny", "llama-tiny"])
def test_mlp_equals_the_reference_with_gradients(name: str, backend: Backend) -> None:
    mlp = tiny_mlp(name)

    def call(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
        weights = {"up.weight": up, "down.weight": down}
        constants = {key: value.to(x.dtype) for key, value in mlp.named_parameters()}
        return torch.func.functional_call(mlp, constants | weights, (x,))  # type: ignore[no-any-return]

    inputs = {
        "x": torch.randn(7, 32),
        "up": mlp.up.weight.detach(),
        "down": mlp.down.weight.detach(),
    }
    assert_equals_reference(call, inputs, backend=backend)

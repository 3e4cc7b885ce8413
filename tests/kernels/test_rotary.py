import pytest
import torch
from torch import Tensor

from tests.kernels.interpreter import interpret
from tests.kernels.oracle import assert_equals_reference
from weldlm_kernels import rotary, rotary_in_place, use_backend
from weldlm_kernels.backend import Backend

CONTEXT_LENGTH = 50
CONVENTIONS = pytest.mark.parametrize("is_interleaved", [True, False], ids=["neighbors", "halves"])
# (tokens, num_heads, head_dim, rotated): head sizes that are no power of two, partial rotation, one
# pair, more heads than a block holds, no tokens, nothing rotated
SIZES = [
    (1, 1, 2, 2),
    (5, 3, 64, 64),
    (70, 2, 16, 8),
    (7, 12, 80, 80),
    (3, 9, 96, 24),
    (11, 1, 100, 62),
    (0, 2, 8, 8),
    (4, 2, 6, 0),
]


def make_inputs(size: tuple[int, int, int, int], dtype: torch.dtype) -> dict[str, Tensor | None]:
    tokens, num_heads, head_dim, _ = size
    generator = torch.Generator().manual_seed(head_dim)
    return {"x": torch.randn(tokens, num_heads, head_dim, generator=generator).to(dtype)}


def rotate(x: Tensor, size: tuple[int, int, int, int], is_interleaved: bool) -> Tensor:
    tokens, _, _, rotated = size
    cos, sin = make_angles(rotated)
    positions = (torch.arange(tokens) * 7 + 3) % CONTEXT_LENGTH
    return rotary(x, cos, sin, positions, is_interleaved=is_interleaved)


def make_angles(rotated: int) -> tuple[Tensor, Tensor]:
    frequencies = 10000.0 ** -(torch.arange(0, rotated, 2) / max(rotated, 1))
    angles = torch.arange(CONTEXT_LENGTH)[:, None] * frequencies
    return angles.cos(), angles.sin()


@pytest.mark.parametrize("rotated", [16, 10])
def test_reference_multiplies_neighbors_as_complex_numbers(rotated: int) -> None:
    x = torch.randn(6, 3, 16, dtype=torch.float64)
    cos, sin = make_angles(rotated)
    positions = torch.tensor([0, 49, 7, 7, 1, 30])

    with use_backend("reference"):
        out = rotary(x, cos.double(), sin.double(), positions, is_interleaved=True)

    turns = torch.complex(cos, sin)[positions][:, None].to(torch.complex128)
    pairs = torch.view_as_complex(x[..., :rotated].reshape(6, 3, -1, 2)) * turns
    expected = torch.cat([torch.view_as_real(pairs).flatten(-2), x[..., rotated:]], dim=-1)
    torch.testing.assert_close(out, expected)


def test_reference_rotates_halves_as_transformers() -> None:
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    x = torch.randn(6, 3, 16)
    cos, sin = make_angles(16)
    positions = torch.tensor([0, 49, 7, 7, 1, 30])

    with use_backend("reference"):
        out = rotary(x, cos, sin, positions)

    whole = [torch.cat([table, table], dim=-1)[positions][None] for table in (cos, sin)]
    expected, _ = llama.apply_rotary_pos_emb(x[None].transpose(1, 2), x[None, None, :, 0], *whole)
    torch.testing.assert_close(out, expected[0].transpose(0, 1))


@CONVENTIONS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gpu_equals_reference(
    size: tuple[int, int, int, int], dtype: torch.dtype, is_interleaved: bool
) -> None:
    def call(x: Tensor) -> Tensor:
        return rotate(x, size, is_interleaved)

    assert_equals_reference(call, make_inputs(size, dtype), backend="gpu")


@CONVENTIONS
@pytest.mark.parametrize("size", [*SIZES, (2000, 3, 36, 30)], ids=str)
def test_cpu_equals_reference(size: tuple[int, int, int, int], is_interleaved: bool) -> None:
    def call(x: Tensor) -> Tensor:
        return rotate(x, size, is_interleaved)

    assert_equals_reference(call, make_inputs(size, torch.float32), backend="cpu")


@pytest.mark.parametrize("position", [50, 2**40])
def test_cpu_reads_nothing_outside_the_tables(position: int) -> None:
    x, (cos, sin) = torch.randn(3, 2, 16), make_angles(16)

    with use_backend("cpu"), pytest.raises(IndexError, match="out of bounds"):
        rotary(x, cos, sin, torch.tensor([0, position, 1]))


@CONVENTIONS
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_heads_may_be_slices_of_a_projection(backend: Backend, is_interleaved: bool) -> None:
    def call(projection: Tensor) -> Tensor:
        heads = projection.view(9, 5, 60)[:, 1:4, 6:54]
        return rotate(heads, (9, 3, 48, 48), is_interleaved)

    assert_equals_reference(call, {"projection": torch.randn(9, 5 * 60)}, backend=backend)


@CONVENTIONS
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_channels_need_not_be_contiguous(backend: Backend, is_interleaved: bool) -> None:
    def call(x: Tensor) -> Tensor:
        return rotate(x.transpose(1, 2), (9, 3, 20, 20), is_interleaved)

    assert_equals_reference(call, {"x": torch.randn(9, 20, 3)}, backend=backend)


IN_PLACE = [(5, 3, 64, 64), (7, 12, 80, 32), (0, 2, 8, 8), (4, 2, 6, 0)]


@CONVENTIONS
@pytest.mark.parametrize("backend", ["reference", "cpu", "gpu"])
@pytest.mark.parametrize("size", IN_PLACE, ids=str)
def test_rotation_in_place_is_the_one_returned(
    size: tuple[int, int, int, int], backend: Backend, is_interleaved: bool
) -> None:
    tokens, num_heads, head_dim, rotated = size
    projection = torch.randn(tokens, 3, num_heads, head_dim)
    expected = projection.clone()
    expected[:, 1] = rotate(projection[:, 1], size, is_interleaved)
    cos, sin = make_angles(rotated)
    positions = (torch.arange(tokens) * 7 + 3) % CONTEXT_LENGTH

    with interpret(), use_backend(backend):
        rotary_in_place(projection[:, 1], cos, sin, positions, is_interleaved=is_interleaved)

    torch.testing.assert_close(projection, expected)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_rotation_in_place_takes_channels_that_are_not_contiguous(backend: Backend) -> None:
    x, (cos, sin), positions = torch.randn(9, 20, 3), make_angles(20), torch.arange(9)
    expected = rotary(x.transpose(1, 2), cos, sin, positions)

    with interpret(), use_backend(backend):
        rotary_in_place(x.transpose(1, 2), cos, sin, positions)

    torch.testing.assert_close(x.transpose(1, 2), expected)


@pytest.mark.parametrize("backend", ["reference", "cpu", "gpu"])
def test_sequence_may_go_on_at_an_offset(backend: Backend) -> None:
    x, (cos, sin) = torch.randn(9, 2, 16), make_angles(16)
    whole = rotary(x, cos, sin, torch.arange(9))

    with interpret(), use_backend(backend):
        rest = rotary(x[6:], cos, sin, 6 + torch.arange(3))

    torch.testing.assert_close(rest, whole[6:])


def test_rotation_in_place_refuses_a_gradient() -> None:
    x, (cos, sin) = torch.randn(3, 2, 16, requires_grad=True), make_angles(16)

    with pytest.raises(RuntimeError, match=r"rotary_in_place has none.*torch\.no_grad\(\)"):
        rotary_in_place(x, cos, sin, torch.arange(3))


def test_rotation_in_place_obeys_the_rules_of_torch_library() -> None:
    arguments = (torch.randn(3, 2, 8), *make_angles(6), torch.tensor([0, 5, 8]), True, "gpu")

    with interpret():
        torch.library.opcheck(torch.ops.weldlm.rotary_in_place.default, arguments)


def test_rotation_in_place_compiles_without_a_graph_break() -> None:
    cos, sin = make_angles(16)

    def call(x: Tensor) -> Tensor:
        heads = x * 2
        rotary_in_place(heads, cos, sin, torch.arange(3))
        return heads + 1

    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    x = torch.randn(3, 2, 16)

    torch.testing.assert_close(compiled(x), call(x))


def test_inverse_rotation_restores_the_input() -> None:
    x = torch.randn(4, 2, 32)
    cos, sin = make_angles(32)
    positions = torch.arange(4)

    restored = rotary(rotary(x, cos, sin, positions), cos, -sin, positions)

    torch.testing.assert_close(restored, x)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 32), (9, 8), (9, 8), (4,)), r"x \(4, 32\) .* expected \[T, num_heads, head_dim\]"),
        (((4, 2, 32), (9, 8), (9, 8), (5,)), r"positions \(5,\) do not fit"),
        (((4, 2, 32), (9, 8), (9, 4), (4,)), r"cos \(9, 8\) and sin \(9, 4\)"),
        (((4, 2, 32), (9, 17), (9, 17), (4,)), r"do not fit head_dim 32"),
    ],
)
def test_shapes_that_do_not_fit_are_named(
    shapes: tuple[tuple[int, ...], ...], message: str
) -> None:
    x, cos, sin, positions = (torch.zeros(shape) for shape in shapes)

    with pytest.raises(ValueError, match=message):
        rotary(x, cos, sin, positions.long())

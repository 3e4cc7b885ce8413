"""Compiled CPU kernels (csrc/bindings/cpu*.cpp).

Tensors are passed as `tensor.data_ptr()`: contiguous, fp32 unless said otherwise, and kept alive by
the caller. Nothing is checked here; the callers in `<op>/cpu.py` do.
"""

def num_threads() -> int:
    """The largest number of threads a kernel takes now: torch.get_num_threads(), or 1."""

def thread_runtime() -> str:
    """Path of the OpenMP runtime in use, torch's own; empty where torch is not loaded."""

def instruction_set() -> str:
    """What the kernels run on: "baseline", "avx2" or "avx512"."""

def available_instruction_sets() -> list[str]:
    """What this processor can run, best last."""

def force_instruction_set(name: str) -> None:
    """Takes `name` for the whole process until forced again.

    Raises:
        ValueError: this processor has no such instruction set.
    """

def cross_entropy(
    *, logits: int, targets: int, losses: int, num_rows: int, vocab_size: int, row_stride: int
) -> None:
    """Writes losses[row] = logsumexp(logits[row]) - logits[row, targets[row]].

    Args:
        logits: [num_rows, vocab_size], rows `row_stride` floats apart.
        targets: [num_rows] int64, each in [0, vocab_size).
        losses: [num_rows] fp64, written.
    """

def cross_entropy_with_gradient(
    *, logits: int, targets: int, losses: int, num_rows: int, vocab_size: int, row_stride: int
) -> None:
    """The same, and overwrites logits with softmax(logits) - onehot(targets)."""

def layer_norm(
    x: int,
    residual: int,
    weight: int,
    bias: int,
    y: int,
    stream: int,
    mean: int,
    rstd: int,
    num_rows: int,
    hidden_size: int,
    eps: float,
    /,
) -> None:
    """Writes y, stream = x + residual, and mean and rstd of the stream's rows.

    Args:
        x: [num_rows, hidden_size], like residual (0: none), y and stream (0 without residual).
        weight: [hidden_size], like bias (0: none).
        mean: [num_rows], like rstd.
    """

def layer_norm_backward(
    grad_y: int,
    grad_stream: int,
    stream: int,
    weight: int,
    mean: int,
    rstd: int,
    grad_s: int,
    block_sums: int,
    grad_weight: int,
    grad_bias: int,
    num_rows: int,
    hidden_size: int,
    rows_per_block: int,
    /,
) -> None:
    """Writes the gradients of the stream (with grad_stream, 0: none), of weight and of bias.

    Args:
        block_sums: [ceil(num_rows / rows_per_block), 2, hidden_size], overwritten.
    """

def rms_norm(
    x: int,
    residual: int,
    weight: int,
    y: int,
    stream: int,
    rstd: int,
    num_rows: int,
    hidden_size: int,
    eps: float,
    /,
) -> None:
    """Like `layer_norm`, without mean and bias."""

def rms_norm_backward(
    grad_y: int,
    grad_stream: int,
    stream: int,
    weight: int,
    rstd: int,
    grad_s: int,
    block_sums: int,
    grad_weight: int,
    num_rows: int,
    hidden_size: int,
    rows_per_block: int,
    /,
) -> None:
    """Like `layer_norm_backward`, without mean and bias.

    Args:
        block_sums: [ceil(num_rows / rows_per_block), hidden_size], overwritten.
    """

def gated_mlp(
    x: int, y: int, num_rows: int, width: int, activation: int, is_gated: bool, /
) -> None:
    """Writes y = activation(x), or activation(gate) * up.

    Args:
        x: [num_rows, width], or gate and up [num_rows, 2, width].
        y: [num_rows, width].
        activation: gelu, gelu_tanh, silu, relu, relu_squared as 0 to 4.
    """

def gated_mlp_backward(
    grad_y: int,
    x: int,
    grad_x: int,
    num_rows: int,
    width: int,
    activation: int,
    is_gated: bool,
    /,
) -> None:
    """Writes the gradient of x, in its shape."""

def linear(
    x: int,
    weight: int,
    bias: int,
    y: int,
    num_rows: int,
    in_features: int,
    out_features: int,
    /,
) -> None:
    """Writes y = x W^T + bias.

    Args:
        x: [num_rows, in_features].
        weight: fp32 panels of csrc/cpu/packed_weight.hpp.
        bias: [out_features] (0: none).
        y: [num_rows, out_features].
    """

def int8_linear(
    x: int,
    values: int,
    scales: int,
    bias: int,
    y: int,
    num_rows: int,
    in_features: int,
    out_features: int,
    /,
) -> None:
    """Writes y = x W^T + bias, with x rounded to integers of 8 bits or more.

    Args:
        x: [num_rows, in_features].
        values: int8 panels of csrc/cpu/packed_weight.hpp, uint8.
        scales: [panels * 16].
        bias: [out_features] (0: none).
        y: [num_rows, out_features].
    """

def int4_linear(
    x: int,
    values: int,
    scales: int,
    minimums: int,
    bias: int,
    y: int,
    num_rows: int,
    in_features: int,
    out_features: int,
    group_size: int,
    /,
) -> None:
    """The same with int4 panels, and x rounded to 255 levels of each group.

    Args:
        scales: [panels, in_features / group_size, 16] fp16.
        minimums: the same (0: each is -8 scales).
    """

def paged_attention(
    q: tuple[int, int, int],
    keys: tuple[int, int, int, int, int, int, int, int, bool],
    values: tuple[int, int, int, int, int, int, int, int, bool],
    element: int,
    places: tuple[int, int, int],
    out: int,
    sizes: tuple[int, int, int, int, int, int, int, int, int],
    options: tuple[bool, int, float, float, int, int, int],
    /,
) -> bool:
    """Writes out; writes nothing and returns False where a named row or page does not exist.

    Args:
        q: address, and strides by token and head; a head's elements lie side by side.
        keys: address and strides by block, token and head of the cache and of its scales (0 where
            there are none), and whether the scales are fp16.
        values: like `keys`.
        element: of the caches: 0 fp32, 1 int8, 2 fp8.
        places: block_table, lengths and q_offsets, int32.
        out: [num_tokens, num_heads, head_dim].
        sizes: num_tokens, num_sequences, num_blocks, block_size, width of the block table,
            num_heads, num_kv_heads, head_dim, split_length.
        options: is_causal, window (0: none), scale, softcap (0: none), alibi_slopes [num_heads] (0:
            none), biases by distance [num_heads, 2 * reach + 1] (0: none), reach.
    """

def rotary(
    x: tuple[int, int, int],
    out: tuple[int, int, int],
    cos: int,
    sin: int,
    positions: int,
    sizes: tuple[int, int, int, int, int],
    is_interleaved: bool,
    /,
) -> bool:
    """Writes the rotation of x; nothing, and returns False, where a position is not in the tables.

    Args:
        x: address, and strides by token and head; a head's elements lie side by side.
        out: like `x`, or `x` itself.
        cos: [context_length, half_width], like sin.
        positions: [num_tokens] int64.
        sizes: num_tokens, num_heads, head_dim, half_width, context_length.
    """

def write_kv(
    k: tuple[int, int, int],
    v: tuple[int, int, int],
    key_cache: tuple[int, int, int, int, int, int, int, int, bool],
    value_cache: tuple[int, int, int, int, int, int, int, int, bool],
    element: int,
    slots: int,
    sizes: tuple[int, int, int, int, int],
    /,
) -> bool:
    """Writes the caches; nothing, and returns False, where a slot is not in them.

    Args:
        k: address, and strides by token and head, like `v`.
        key_cache: as in `paged_attention`, like `value_cache`.
        element: 0 fp32, 1 int8.
        slots: [num_tokens] int64; -1: not written.
        sizes: num_tokens, num_kv_heads, head_dim, num_blocks, block_size.
    """

def draw_tokens(
    *,
    scores: int,
    temperatures: int,
    seeds: int,
    positions: int,
    top_k: int,
    top_p: int,
    min_p: int,
    ids: int,
    num_rows: int,
    vocab_size: int,
) -> None:
    """Writes the token of each row, as weldlm_kernels.sampling draws it.

    Args:
        scores: [num_rows, vocab_size].
        temperatures: [num_rows], like top_p and min_p (0: keep all).
        seeds: [num_rows] int64, like positions and top_k (0: keep all).
        ids: [num_rows] int64, written.
    """

class DecoderBlock:
    """A layer of a decoder, of addresses that live longer.

    Layers are (format, values, scales, minimums, bias, in_features, out_features, group_size) with
    the format 0 for fp32, 8 bits 1, 4 bits 2.
    """

    def __init__(
        self,
        qkv: tuple[int, int, int, int, int, int, int, int],
        out: tuple[int, int, int, int, int, int, int, int],
        up: tuple[int, int, int, int, int, int, int, int],
        down: tuple[int, int, int, int, int, int, int, int],
        heads: tuple[int, int, int],
        activation: int,
        is_gated: bool,
        window: int,
        scale: float,
        softcap: float,
        /,
    ) -> None:
        """Takes heads (num_heads, num_kv_heads, head_dim), and 0 for no window or softcap."""

    def run(
        self,
        attention_norm: tuple[int, int, float, bool],
        mlp_norm: tuple[int, int, float, bool],
        rows: tuple[int, ...],
        angles: tuple[int, int, int, int],
        keys: tuple[int, int, int, int, int, int, int, int, bool],
        values: tuple[int, int, int, int, int, int, int, int, bool],
        element: int,
        places: tuple[int, int, int],
        sizes: tuple[int, int, int, int, int, int],
        /,
    ) -> bool:
        """Runs rows; False, and nothing written, where a position, slot or page does not exist.

        Args:
            attention_norm, mlp_norm: weight, bias (0: none), eps, whether it is rms_norm.
            rows: stream, update (0: none), new_stream, new_update, positions, slots.
            angles: cos (0: none), sin, half_width, context_length.
            keys, values, element, places: as in paged_attention.
            sizes: num_tokens, num_sequences, num_blocks, block_size, table_width, split_length.
        """

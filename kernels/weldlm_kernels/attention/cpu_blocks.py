"""attention on a CPU with what torch's flash kernel lacks: biases and a softcap.

Some rows at a time meet all keys they see in two matrix products, so that the scores take a fixed
amount of memory however long a sequence is; backward computes them again from the log-sum-exp. What
depends on the distance of key and query alone is made once for each distance of a block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from weldlm_kernels.attention.offsets import read_offsets
from weldlm_kernels.attention.options import Options
from weldlm_kernels.attention.reference import RelativeBias

__all__ = ["attention", "attention_backward"]

# scores of a block, 8 MB: they stay in the last-level cache, and a product is worth its call
_BLOCK_SCORES = 2**21
_MOST_ROWS = 256

_softmax_backward = torch.ops.aten._softmax_backward_data.default


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of a sequence and the keys that any of them sees, as places in the packed tensors."""

    rows: slice
    keys: slice
    shift: int  # place of the first key in the sequence less that of the first row

    @property
    def distances(self) -> Tensor:
        """Place of the key less that of the query: of the last row and first key, up to the others.

        [rows + keys - 1]; row i begins at entry rows - 1 - i.
        """
        num_rows, num_keys = _length(self.rows), _length(self.keys)
        return torch.arange(self.shift - num_rows + 1, self.shift + num_keys)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Returns out [T, H, Dv] and lse [H, T]."""
    num_tokens, num_heads = q.shape[:2]
    out = q.new_zeros(num_tokens, num_heads, v.shape[2])
    lse = q.new_full((num_heads, num_tokens), float("-inf"))
    for block in _blocks(q, k, q_offsets, k_offsets, options):
        scores, _ = _masked_scores(q[block.rows], k[block.keys], block, options)
        block_lse = scores.logsumexp(-1)
        weights = _by_group(_weigh(scores, block_lse), k.shape[1])
        block_out = weights.bmm(_heads(v[block.keys])).view(num_heads, -1, v.shape[2])
        out[block.rows] = block_out.transpose(0, 1)
        lse[:, block.rows] = block_lse
    return out, lse


def attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lse: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Returns the gradients of q, k, v and the relative bias, where there is one."""
    grad_q, grad_k, grad_v = (x.new_zeros(x.shape) for x in (q, k, v))
    bias = options.relative_bias
    # in fp64: the gradients of a bucket nearly cancel
    grad_bias = None if bias is None else bias.new_zeros(bias.shape, dtype=torch.float64)
    num_kv_heads = k.shape[1]
    for block in _blocks(q, k, q_offsets, k_offsets, options):
        rows, keys = block.rows, block.keys
        q_rows, k_keys = q[rows], k[keys]
        scores, capped = _masked_scores(q_rows, k_keys, block, options)
        weights = _weigh(scores, lse[:, rows])
        grad_rows = _by_group(_heads(grad_out[rows]), num_kv_heads)  # [Hkv, G * R, Dv]
        grad_v[keys] += _by_group(weights, num_kv_heads).mT.bmm(grad_rows).transpose(0, 1)
        grad_weights = grad_rows.bmm(_heads(v[keys]).mT).view(scores.shape)
        grad_scores = _softmax_backward(grad_weights, weights, -1, weights.dtype)
        if capped is not None:
            grad_scores.mul_(capped.square_().neg_().add_(1.0))
        if grad_bias is not None:
            _add_bias_gradient(grad_bias, grad_scores, block, options)
        grad_products = _by_group(grad_scores.mul_(options.scale), num_kv_heads)
        block_grad_q = grad_products.bmm(_heads(k_keys)).view(q.shape[1], -1, q.shape[2])
        grad_q[rows] = block_grad_q.transpose(0, 1)
        by_group = _by_group(_heads(q_rows), num_kv_heads)
        grad_k[keys] += grad_products.mT.bmm(by_group).transpose(0, 1)
    if bias is None or grad_bias is None:
        return grad_q, grad_k, grad_v, None
    return grad_q, grad_k, grad_v, grad_bias.to(bias.dtype)


def _blocks(
    q: Tensor, k: Tensor, q_offsets: Tensor, k_offsets: Tensor, options: Options
) -> Iterator[_Block]:
    """Blocks that cover every row which sees a key."""
    bounds = zip(
        pairwise(read_offsets("q_offsets", q_offsets, q.shape[0])),
        pairwise(read_offsets("k_offsets", k_offsets, k.shape[0])),
        strict=True,
    )
    for (q_start, q_end), (k_start, k_end) in bounds:
        num_keys, shift = k_end - k_start, (k_end - k_start) - (q_end - q_start)
        seen = num_keys if options.window is None else min(num_keys, 2 * options.window)
        step = max(1, min(_MOST_ROWS, _BLOCK_SCORES // max(1, q.shape[1] * seen)))
        for start in range(0, q_end - q_start, step):
            stop = min(start + step, q_end - q_start)
            first, last = 0, num_keys
            if options.is_causal:
                last = min(last, stop + shift)
            if options.window is not None:
                first = max(first, start + shift - options.window + 1)
                last = min(last, stop - 1 + shift + options.window)
            if first < last:
                yield _Block(
                    slice(q_start + start, q_start + stop),
                    slice(k_start + first, k_start + last),
                    first - (start + shift),
                )


def _masked_scores(
    q: Tensor, k: Tensor, block: _Block, options: Options
) -> tuple[Tensor, Tensor | None]:
    """The scores of a block [H, R, S], -inf where hidden; and tanh(score / softcap)."""
    num_rows, num_heads, _ = q.shape
    products = _by_group(_heads(q), k.shape[1]).bmm(_heads(k).mT)
    scores = products.view(num_heads, num_rows, -1).mul_(options.scale)
    distances = block.distances
    biases = _biases(distances, options)
    if biases is not None:
        scores += biases.unfold(1, k.shape[0], 1).flip(1)
    capped = None
    if options.softcap is not None:
        capped = (scores / options.softcap).tanh_()
        scores = capped * options.softcap
    is_hidden = torch.zeros_like(distances, dtype=torch.bool)
    if options.is_causal:
        is_hidden |= distances > 0
    if options.window is not None:
        is_hidden |= distances.abs() >= options.window
    if is_hidden.any():
        scores.masked_fill_(is_hidden.unfold(0, k.shape[0], 1).flip(0), float("-inf"))
    return scores, capped


def _biases(distances: Tensor, options: Options) -> Tensor | None:
    """What is added to the scores, [H, distances]."""
    biases = None
    if options.relative_bias is not None:
        biases = options.relative_bias[_buckets(distances, options)].T
    if options.alibi_slopes is not None:
        slopes = options.alibi_slopes.unsqueeze(1) * distances.abs()
        biases = -slopes if biases is None else biases - slopes
    return biases


def _buckets(distances: Tensor, options: Options) -> Tensor:
    assert options.relative_bias is not None
    return RelativeBias(
        options.relative_bias, options.max_distance, options.is_bidirectional
    ).buckets(distances)


def _weigh(scores: Tensor, lse: Tensor) -> Tensor:
    """Overwrites scores with exp(scores - lse)."""
    # a row without a visible key has lse = -inf, which would give exp(nan)
    shift = torch.where(lse == float("-inf"), 0.0, lse)
    return scores.sub_(shift.unsqueeze(-1)).exp_()


def _add_bias_gradient(
    grad_bias: Tensor, grad_scores: Tensor, block: _Block, options: Options
) -> None:
    """Adds up the gradients of a distance, then those of a bucket."""
    num_heads, num_rows, num_keys = grad_scores.shape
    # each row moved by one against the next, so that a column holds one distance
    skewed = torch.nn.functional.pad(grad_scores.flip(1), (0, num_rows)).flatten(1)
    by_distance = skewed[:, : num_rows * (num_rows + num_keys - 1)].view(num_heads, num_rows, -1)
    grad_bias.index_add_(
        0, _buckets(block.distances, options), by_distance.sum(1, dtype=torch.float64).T
    )


def _heads(x: Tensor) -> Tensor:
    """[T, H, D] -> [H, T, D]."""
    return x.transpose(0, 1)


def _by_group(x: Tensor, num_kv_heads: int) -> Tensor:
    """[H, R, ...] -> [Hkv, G * R, ...], the rows that share a key/value head together."""
    return x.reshape(num_kv_heads, -1, x.shape[2])


def _length(span: slice) -> int:
    length: int = span.stop - span.start
    return length

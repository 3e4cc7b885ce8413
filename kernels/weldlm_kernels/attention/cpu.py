"""attention on a CPU: torch's own flash kernel, without its padding.

The kernel takes dense [B, H, L, D] batches, so consecutive sequences of equal lengths go through it
together, as views of the packed tensors. Its causal mask aligns the first query with the first key
and ours the last with the last; the two agree where both lengths are equal. Every other case is cut
into parts that need that mask or none: attention over two sets of keys is the mean of the attention
over each, weighted by exp(lse), and the gradients of the parts, given the whole lse, add up. A
window is cut into rows that share a mask. Biases and a softcap, which the kernel lacks, take
cpu_blocks.py. What has 16 bits is computed in fp32, in which the parts are joined.
"""

from dataclasses import dataclass
from itertools import groupby, pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from weldlm_kernels.attention import cpu_blocks
from weldlm_kernels.attention.offsets import read_offsets
from weldlm_kernels.attention.options import Options

__all__ = ["attention", "attention_backward"]

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive sequences of equal lengths."""

    num_sequences: int
    q_start: int
    q_length: int
    k_start: int
    k_length: int

    def rows(self, x: Tensor) -> Tensor:
        """The queries of a packed [T, H, ...] as [B, H, q_length, ...]."""
        return self._batch(x, self.q_start, self.q_length)

    def keys(self, x: Tensor) -> Tensor:
        """The keys of a packed [S, H, ...] as [B, H, k_length, ...]."""
        return self._batch(x, self.k_start, self.k_length)

    def parts(self, is_causal: bool, window: int | None) -> "list[_Part]":
        """How one of the sequences is cut."""
        if window is None or window >= max(self.q_length, self.k_length):
            return _parts(self.q_length, self.k_length, is_causal)
        return _windowed_parts(self.q_length, self.k_length, is_causal, window)

    def _batch(self, x: Tensor, start: int, length: int) -> Tensor:
        tokens = x.narrow(0, start, self.num_sequences * length)
        batch: Tensor = tokens.unflatten(0, (self.num_sequences, length))
        return batch.transpose(1, 2)


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows that see all of some keys, or one key more from row to row, or what a mask leaves."""

    rows: slice
    keys: slice
    is_causal: bool
    mask: Tensor | None = None  # [rows, keys], 0 or -inf


_ALL = slice(None)
_CHUNK = 128


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Returns out [T, H, Dv] and lse [H, T]."""
    if q.dtype != torch.float32:
        q32, k32, v32 = q.float(), k.float(), v.float()
        lengths = q_offsets, k_offsets, q_max_length, k_max_length
        out, lse = attention(q32, k32, v32, *lengths, _in_fp32(options))
        return out.to(q.dtype), lse
    if _changes_scores(options):
        return cpu_blocks.attention(q, k, v, q_offsets, k_offsets, options)
    num_tokens, num_heads, value_dim = *q.shape[:2], v.shape[2]
    q_bounds = read_offsets("q_offsets", q_offsets, num_tokens)
    k_bounds = read_offsets("k_offsets", k_offsets, k.shape[0])
    q, k, v = _prepared(q, k, v)
    outs, lses = [], []
    for run in _runs(q_bounds, k_bounds):
        parts = run.parts(options.is_causal, options.window)
        out, lse = _attend(run.rows(q), run.keys(k), run.keys(v), parts, options.scale)
        outs.append(out)
        lses.append(lse.unsqueeze(-1))
    lse_by_token = _joined(lses, (num_tokens, num_heads, 1), float("-inf"))
    out_shape = (num_tokens, num_heads, value_dim)
    return _joined(outs, out_shape, 0.0), lse_by_token.squeeze(-1).T.contiguous()


def attention_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    q_offsets: Tensor,
    k_offsets: Tensor,
    q_max_length: int,
    k_max_length: int,
    options: Options,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Returns the gradients of q, k, v and the relative bias, where there is one."""
    if q.dtype != torch.float32:
        lengths = q_offsets, k_offsets, q_max_length, k_max_length
        grad32, q32, k32, v32, out32 = (x.float() for x in (grad_out, q, k, v, out))
        grad_q, grad_k, grad_v, grad_bias = attention_backward(
            grad32, q32, k32, v32, out32, lse, *lengths, _in_fp32(options)
        )
        if options.relative_bias is not None and grad_bias is not None:
            grad_bias = grad_bias.to(options.relative_bias.dtype)
        return grad_q.to(q.dtype), grad_k.to(q.dtype), grad_v.to(q.dtype), grad_bias
    if _changes_scores(options):
        return cpu_blocks.attention_backward(grad_out, q, k, v, lse, q_offsets, k_offsets, options)
    shapes = q.shape, k.shape, v.shape
    q, k, v, grad_out, out = _prepared(q, k, v, grad_out, out)
    grads_q, grads_k, grads_v = [], [], []
    for run in _runs(q_offsets.tolist(), k_offsets.tolist()):
        grad_q, grad_k, grad_v = _attend_backward(
            run.rows(grad_out),
            run.rows(q),
            run.keys(k),
            run.keys(v),
            run.rows(out),
            run.rows(lse.T),
            run.parts(options.is_causal, options.window),
            options.scale,
        )
        grads_q.append(grad_q)
        grads_k.append(grad_k)
        grads_v.append(grad_v)
    grad_q, grad_k, grad_v = (
        _joined(grads, tuple(shape), 0.0)
        for grads, shape in zip((grads_q, grads_k, grads_v), shapes, strict=True)
    )
    return grad_q, grad_k, grad_v, None


def _changes_scores(options: Options) -> bool:
    extras = options.relative_bias, options.alibi_slopes, options.softcap
    return any(extra is not None for extra in extras)


def _in_fp32(options: Options) -> Options:
    bias, slopes = (
        None if x is None else x.float() for x in (options.relative_bias, options.alibi_slopes)
    )
    return options._replace(relative_bias=bias, alibi_slopes=slopes)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, parts: list[_Part], scale: float
) -> tuple[Tensor, Tensor]:
    """q [B, H, L, D], k and v [B, Hkv, S, D] -> out [B, H, L, D], lse [B, H, L]."""
    if len(parts) == 1 and parts[0].rows == _ALL:
        return _flash(q, k, v, 0.0, parts[0].is_causal, scale=scale)  # type: ignore[no-any-return]
    out = torch.zeros_like(q)
    lse = q.new_full(q.shape[:3], float("-inf"))
    for part in parts:
        rows, keys = part.rows, part.keys
        part_out, part_lse = _flash(
            q[:, :, rows],
            k[:, :, keys],
            v[:, :, keys],
            0.0,
            part.is_causal,
            attn_mask=part.mask,
            scale=scale,
        )
        whole_lse = torch.logaddexp(lse[:, :, rows], part_lse)
        weight = torch.exp(part_lse - whole_lse).unsqueeze(-1)
        out[:, :, rows].lerp_(part_out, weight)
        lse[:, :, rows] = whole_lse
    return out, lse


def _attend_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    parts: list[_Part],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `_attend`."""
    if len(parts) == 1 and parts[0].rows == _ALL:
        return _flash_backward(  # type: ignore[no-any-return]
            grad_out, q, k, v, out, lse, 0.0, parts[0].is_causal, scale=scale
        )
    grad_q, grad_k, grad_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for part in parts:
        rows, keys = part.rows, part.keys
        part_grad_q, part_grad_k, part_grad_v = _flash_backward(
            grad_out[:, :, rows],
            q[:, :, rows],
            k[:, :, keys],
            v[:, :, keys],
            out[:, :, rows],
            lse[:, :, rows],
            0.0,
            part.is_causal,
            attn_mask=part.mask,
            scale=scale,
        )
        grad_q[:, :, rows] += part_grad_q
        grad_k[:, :, keys] += part_grad_k
        grad_v[:, :, keys] += part_grad_v
    return grad_q, grad_k, grad_v


def _parts(q_length: int, k_length: int, is_causal: bool) -> list[_Part]:
    if q_length == 0 or k_length == 0:
        return []
    if not is_causal or q_length == 1:
        return [_Part(_ALL, _ALL, is_causal=False)]
    if q_length == k_length <= _CHUNK:
        return [_Part(_ALL, _ALL, is_causal=True)]
    parts = []
    # where there are fewer keys than rows, the first rows see none
    for start in range(max(q_length - k_length, 0), q_length, _CHUNK):
        stop = min(start + _CHUNK, q_length)
        seen, last = start + k_length - q_length, stop + k_length - q_length
        if seen > 0:
            parts.append(_Part(slice(start, stop), slice(seen), is_causal=False))
        parts.append(_Part(slice(start, stop), slice(seen, last), is_causal=True))
    return parts


def _windowed_parts(q_length: int, k_length: int, is_causal: bool, window: int) -> list[_Part]:
    """A window moves one key from row to row: a chunk of rows shares its keys and a mask."""
    shift, ahead = k_length - q_length, 0 if is_causal else window - 1
    parts = []
    # where there are fewer keys than rows, the first rows see none
    for start in range(max(0, -shift - ahead), q_length, _CHUNK):
        stop = min(start + _CHUNK, q_length)
        first = max(start + shift - window + 1, 0)
        last = min(stop + shift + ahead, k_length)
        distance = torch.arange(first, last) - torch.arange(start, stop).unsqueeze(1) - shift
        is_hidden = (distance <= -window) | (distance > ahead)
        mask = torch.zeros(is_hidden.shape).masked_fill(is_hidden, float("-inf"))
        keys = slice(first, last)
        parts.append(_Part(slice(start, stop), keys, is_causal=False, mask=mask))
    return parts


def _runs(q_bounds: list[int], k_bounds: list[int]) -> list[_Run]:
    bounds = zip(pairwise(q_bounds), pairwise(k_bounds), strict=True)
    runs = []
    for lengths, group in groupby(bounds, key=lambda s: (s[0][1] - s[0][0], s[1][1] - s[1][0])):
        members = list(group)
        (q_start, _), (k_start, _) = members[0]
        runs.append(_Run(len(members), q_start, lengths[0], k_start, lengths[1]))
    return runs


def _prepared(*tensors: Tensor) -> list[Tensor]:
    """Pads all to one head size, which the kernel asks for, with rows that a GEMM can read."""
    size = max(x.shape[2] for x in tensors)
    return [_readable(pad(x, (0, size - x.shape[2])) if x.shape[2] < size else x) for x in tensors]


def _readable(x: Tensor) -> Tensor:
    """Copies what has overlapping or scattered rows, such as the gradient of a sum."""
    return x if x.stride(2) == 1 and x.stride(0) >= x.shape[2] else x.contiguous()


def _joined(parts: list[Tensor], shape: tuple[int, ...], fill: float) -> Tensor:
    """Packs parts [B, H, L, D], less their padding, into `shape` [T, H, D]; `fill` for the rest."""
    packed = [part.transpose(1, 2).flatten(0, 1)[..., : shape[2]] for part in parts]
    rest = shape[0] - sum(part.shape[0] for part in packed)
    if rest > 0 or not packed:
        packed.append(torch.full((rest, *shape[1:]), fill, dtype=torch.float32))
    return packed[0].contiguous() if len(packed) == 1 else torch.cat(packed)

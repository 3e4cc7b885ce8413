"""Stacks of layers on packed sequences: packed where they begin, unpacked where they end.

A stack leaves to its own forward every call that asks for what packed layers do not have: a cache,
attention weights, a mask of more than two dimensions, tuples instead of named outputs. Under
torch.compile only batches without a mask are taken, because the number of real tokens is data.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from weldlm.patching.installed import arguments_by_name
from weldlm.patching.layout import Layout, Packing, flattened_layout, full_layout, read_layout
from weldlm.patching.parameters import CACHE_NAMES, given_cache

__all__ = ["UNPACKABLE", "bart_stack", "bert_layers", "bert_stack", "id_stack"]

# what a caller inside this package adds to forbid packing in one call
UNPACKABLE = "weldlm_keeps_padding"


def id_stack(stack: Any, names: tuple[str, ...], *args: Any, **kwargs: Any) -> Any:
    """A stack that takes positions, or needs none: its ids are packed before they are embedded."""
    call = arguments_by_name(stack, names, args, kwargs)
    # of the stacks with positions, those that are causal can have a cache
    reads_positions = any(name in CACHE_NAMES for name in names)
    packing = _packing(stack, names, call, reads_positions=reads_positions)
    if packing is None:
        return type(stack).forward(stack, **call)
    own = packing.own
    if "position_ids" in names:
        call["position_ids"] = _positions(own, call)
    for name in ("input_ids", "inputs_embeds", "token_type_ids"):
        if call.get(name) is not None:
            call[name] = own.pack(call[name])
    outputs = type(stack).forward(stack, **_without_masks(names, call, packing))
    return _unpacked(outputs, own)


def bert_stack(stack: Any, names: tuple[str, ...], *args: Any, **kwargs: Any) -> Any:
    """A stack whose pooler reads the first token of each padded row: `bert_layers` pack inside."""
    call = arguments_by_name(stack, names, args, kwargs)
    packing = _packing(stack, names, call, is_decoder=stack.config.is_decoder)
    if packing is None or (stack.pooler is not None and _begins_with_padding(packing.own, call)):
        return type(stack).forward(stack, **call)
    outputs = type(stack).forward(stack, **_without_masks(names, call, packing))
    return _unpacked(outputs, packing.own)


def bert_layers(
    layers: Any, hidden_states: Tensor, *args: Any, packing: Packing | None = None, **kwargs: Any
) -> Any:
    """The layers between embedding and pooler."""
    if packing is None:
        return type(layers).forward(layers, hidden_states, *args, **kwargs)
    packed = packing.own.pack(hidden_states)
    outputs = type(layers).forward(layers, packed, *args, packing=packing, **kwargs)
    return _unpacked(outputs, packing.own)


def bart_stack(stack: Any, names: tuple[str, ...], *args: Any, **kwargs: Any) -> Any:
    """A stack that numbers positions by itself: it embeds padded rows."""
    call = arguments_by_name(stack, names, args, kwargs)
    packing = _packing(stack, names, call)
    if packing is None:
        return type(stack).forward(stack, **call)
    if packing.own.rows is None:
        return type(stack).forward(stack, **_without_masks(names, call, packing))
    if (stack.training and stack.layerdrop > 0.0) or _is_asked("output_hidden_states", stack, call):
        return type(stack).forward(stack, **call)
    return _run_bart_layers(stack, call, packing)


def _run_bart_layers(stack: Any, call: dict[str, Any], packing: Packing) -> Any:
    from transformers.modeling_outputs import (
        BaseModelOutput,
        BaseModelOutputWithPastAndCrossAttentions,
    )

    embeds = call.get("inputs_embeds")
    embeds = stack.embed_tokens(call["input_ids"]) if embeds is None else embeds
    x = stack.layernorm_embedding(embeds + stack.embed_positions(embeds[..., 0]))
    x = packing.own.pack(functional.dropout(x, stack.dropout, stack.training))
    states = call.get("encoder_hidden_states")
    # by position, since activation checkpointing takes no gradients of what has a name
    memory: tuple[Tensor, ...] = ()
    if states is not None:
        assert packing.memory is not None
        memory = (packing.memory.pack(states),)
    for layer in stack.layers:
        x = layer(x, None, *memory, packing=packing)
    output = BaseModelOutput if states is None else BaseModelOutputWithPastAndCrossAttentions
    return output(last_hidden_state=packing.own.unpack(x))


def _packing(
    stack: Any,
    names: tuple[str, ...],
    call: dict[str, Any],
    *,
    is_decoder: bool = True,
    reads_positions: bool = False,
) -> Packing | None:
    """How the call is packed, or None where it is not; takes UNPACKABLE out of it.

    Args:
        stack: the stack called.
        names: parameters of its forward.
        call: its arguments by name.
        is_decoder: it returns a cache unless told not to.
        reads_positions: without a mask, its positions say where sequences begin.
    """
    is_unpackable = call.pop(UNPACKABLE, False)
    if is_unpackable or _wants_cache(stack, names, call, is_decoder):
        return None
    if _is_asked("output_attentions", stack, call):
        return None
    if call.get("return_dict", stack.config.return_dict) is False:
        return None
    embeds = call.get("inputs_embeds")
    shape = (call["input_ids"] if embeds is None else embeds[..., 0]).shape
    positions = call.get("position_ids") if reads_positions else None
    if positions is not None and call.get("attention_mask") is None:
        compiles = torch.compiler.is_compiling()
        own = None if compiles else flattened_layout(positions.expand(shape))
    else:
        own = _layout(call.get("attention_mask"), shape, stack.device)
    states = call.get("encoder_hidden_states")
    if own is None or states is None:
        return None if own is None else Packing(own)
    memory = _layout(call.get("encoder_attention_mask"), states.shape[:2], stack.device)
    return None if memory is None else Packing(own, memory)


def _layout(mask: Tensor | None, shape: torch.Size, device: torch.device) -> Layout | None:
    if len(shape) != 2:
        return None
    if mask is None:
        return full_layout(*shape, device)
    if not isinstance(mask, Tensor) or mask.shape != shape or torch.compiler.is_compiling():
        return None
    return read_layout(mask)


def _wants_cache(
    stack: Any, names: tuple[str, ...], call: dict[str, Any], is_decoder: bool
) -> bool:
    """Whether the call reads or returns a cache. In training nobody does who does not say so."""
    if given_cache(call) is not None:
        return True
    asked = call.get("use_cache")
    if asked is not None:
        return bool(asked)
    return "use_cache" in names and is_decoder and stack.config.use_cache and not stack.training


def _begins_with_padding(layout: Layout, call: dict[str, Any]) -> bool:
    return layout.rows is not None and bool((call["attention_mask"][:, 0] == 0).any())


def _is_asked(name: str, stack: Any, call: dict[str, Any]) -> bool:
    value = call.get(name)
    return bool(getattr(stack.config, name) if value is None else value)


def _positions(layout: Layout, call: dict[str, Any]) -> Tensor | None:
    """The column of each token, as the stack would number them, or what the caller says."""
    positions: Tensor | None = call.get("position_ids")
    if layout.rows is None:
        return positions
    if positions is None:
        positions = torch.arange(layout.padded_length, device=layout.rows.device).unsqueeze(0)
    return layout.pack(positions.expand(layout.batch_size, -1))


def _without_masks(
    names: tuple[str, ...], call: dict[str, Any], packing: Packing
) -> dict[str, Any]:
    """Adds `packing`. A mask of four dimensions is handed on unread, so none is computed."""
    mask = torch.zeros(1, 1, 1, 1, device=packing.own.offsets.device)
    call = call | {"attention_mask": mask, "packing": packing}
    if "use_cache" in names:
        call["use_cache"] = False
    if packing.memory is not None:
        call["encoder_hidden_states"] = packing.memory.pack(call["encoder_hidden_states"])
        call["encoder_attention_mask"] = mask
    return call


def _unpacked(outputs: Any, layout: Layout) -> Any:
    if layout.rows is None:
        return outputs
    outputs.last_hidden_state = layout.unpack(outputs.last_hidden_state)
    if outputs.get("hidden_states") is not None:
        outputs.hidden_states = tuple(
            None if states is None else layout.unpack(states) for states in outputs.hidden_states
        )
    return outputs

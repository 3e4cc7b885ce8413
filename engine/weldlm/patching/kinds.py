"""The table: classes of modules, and what computes their forward instead.

A class is known by its full name and by the parameters of its forward. One that has the name but
takes something else is of a version that nobody has tested here, and is kept. The names are those
of the newest version; what older ones call differently is in `parameters`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from weldlm.patching import attention, classifiers, rows, stacks
from weldlm.patching.losses import LossSpec, language_loss
from weldlm.patching.parameters import CACHE_NAMES

__all__ = ["KINDS", "LEFT_TO_TORCH", "READS_NO_PADDING", "TESTED_TRANSFORMERS", "Kind", "kind_of"]

# versions of transformers that the tests have run with: first, and the first one that is not
TESTED_TRANSFORMERS = ("5.23", "5.25")

Role = Literal["rows", "attention", "stack", "classifier", "loss"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What becomes of the modules of a class."""

    role: Role
    kernel: str  # what the report calls it
    forward: Callable[..., Any]  # (module, *settings, *arguments)
    names: tuple[str, ...]  # parameters of the forward of the class
    settings: tuple[Any, ...] = ()
    takes_names: bool = False  # its first setting is the parameters, as this version names them
    obstacle: Callable[[Any], str | None] = lambda _: None  # why this module is kept

    def settings_for(self, names: tuple[str, ...]) -> tuple[Any, ...]:
        return (names, *self.settings) if self.takes_names else self.settings


# modules that are fastest as they are
LEFT_TO_TORCH = {
    "Linear": "PyTorch's GEMM",
    "Conv1D": "PyTorch's GEMM",
    "Embedding": "PyTorch's lookup",
    "BartScaledWordEmbedding": "PyTorch's lookup",
    "BartLearnedPositionalEmbedding": "PyTorch's lookup",
    "Dropout": "PyTorch's dropout, with its random numbers",
    "Identity": "nothing to compute",
    **dict.fromkeys(
        ("GELUActivation", "GELUTanh", "ReLU", "SiLU", "SiLUActivation", "Tanh"),
        "PyTorch's activation, one operation",
    ),
    **dict.fromkeys(
        (
            f"{family}RotaryEmbedding"
            for family in ("Llama", "Mistral", "Qwen2", "Qwen3", "ModernBert")
        ),
        "its angles are computed once a forward",
    ),
}

# models without a kernel of their own whose outputs do not depend on the states of padding
READS_NO_PADDING = (
    "BartModel",
    "BertForSequenceClassification",  # reads the pooler
    "T5EncoderModel",
    "T5Model",
)


def kind_of(module: nn.Module) -> Kind | None:
    cls = type(module)
    return KINDS.get(f"{cls.__module__}.{cls.__qualname__}")


def _llama_states(model: Any, call: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    return _states_of(model.base_model, call)


def _states_of(stack: Any, call: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """The last states of a stack, and its other outputs by name."""
    outputs = stack(**{name: value for name, value in call.items() if name != "labels"})
    return outputs.last_hidden_state, dict(outputs)


def _bart_states(model: Any, call: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    return _states_of(model.model, _with_decoder_inputs(model, call) | {"use_cache": False})


def _t5_states(model: Any, call: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    call = _with_decoder_inputs(model, call)
    encoder_call = {
        name: call.pop(name)
        for name in ("input_ids", "attention_mask", "inputs_embeds")
        if name in call
    }
    decoder_call = {
        name.removeprefix("decoder_"): call.pop(name) for name in _T5_DECODER & set(call)
    }
    decoder_call |= {name: call.pop(name) for name in (*CACHE_NAMES, "use_cache") if name in call}
    call.pop("labels")
    call.pop("encoder_outputs", None)
    encoded = model.encoder(**encoder_call, **call)
    decoded = model.decoder(
        **decoder_call,
        encoder_hidden_states=encoded.last_hidden_state,
        encoder_attention_mask=encoder_call.get("attention_mask"),
        **call,
    )
    states = decoded.last_hidden_state
    if model.config.scale_decoder_outputs:
        states = states * model.model_dim**-0.5
    cache = {name: value for name, value in decoded.items() if name in CACHE_NAMES}
    return states, cache | {
        "decoder_hidden_states": decoded.hidden_states,
        "decoder_attentions": decoded.attentions,
        "cross_attentions": decoded.cross_attentions,
        "encoder_last_hidden_state": encoded.last_hidden_state,
        "encoder_hidden_states": encoded.hidden_states,
        "encoder_attentions": encoded.attentions,
    }


_T5_DECODER = {"decoder_input_ids", "decoder_attention_mask", "decoder_inputs_embeds"}


def _with_decoder_inputs(model: Any, call: dict[str, Any]) -> dict[str, Any]:
    if call.get("decoder_input_ids") is None and call.get("decoder_inputs_embeds") is None:
        ids = model.prepare_decoder_input_ids_from_labels(call["labels"])
        return call | {"decoder_input_ids": ids}
    return dict(call)


def _bert_transform(model: Any, states: Tensor) -> Tensor:
    return model.cls.predictions.transform(states)  # type: ignore[no-any-return]


def _roberta_transform(model: Any, states: Tensor) -> Tensor:
    head = model.lm_head
    return head.layer_norm(functional.gelu(head.dense(states)))  # type: ignore[no-any-return]


def _modernbert_transform(model: Any, states: Tensor) -> Tensor:
    return model.head(states)  # type: ignore[no-any-return]


def _has_cross_attention(module: Any) -> str | None:
    if module.config.add_cross_attention:
        return "it has cross-attention, which is packed for T5 and BART only"
    return None


def _is_not_causal(module: Any) -> str | None:
    # what transformers reads of any configuration, and none has by itself
    if not getattr(module.config, "is_causal", True):
        return "is_causal is false in its configuration"
    return None


def _gpt2_obstacle(module: Any) -> str | None:
    return _has_cross_attention(module) or _is_not_causal(module)


def _t5_stack_obstacle(module: Any) -> str | None:
    return _is_not_causal(module) if module.is_decoder else None


def _bert_obstacle(module: Any) -> str | None:
    if module.config.chunk_size_feed_forward:
        return "chunk_size_feed_forward cuts its rows"
    return _has_cross_attention(module)


def _layer_norm_obstacle(module: Any) -> str | None:
    if len(module.normalized_shape) != 1 or module.weight is None:
        return "the kernel takes one dimension with a weight"
    return None


def _t5_obstacle(module: Any) -> str | None:
    if (
        module.has_relative_attention_bias
        and type(module.relative_attention_bias) is not nn.Embedding
    ):
        return "its table of biases is wrapped"
    if module.relative_attention_max_distance <= module.relative_attention_num_buckets // 2:
        return "relative_attention_max_distance is not above half of the buckets"
    return None


def _sparse_obstacle(module: Any) -> str | None:
    return "sparse_prediction drops rows already" if module.sparse_prediction else None


_IDS = ("input_ids", "attention_mask", "position_ids")
_CROSS = ("encoder_hidden_states", "encoder_attention_mask")
_GPT2 = ("input_ids", "cache", "attention_mask", "token_type_ids", "position_ids",
         "inputs_embeds", *_CROSS)  # fmt: skip
_LLAMA = (*_IDS, "cache", "inputs_embeds")
_BERT = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds", *_CROSS)
_SEQ2SEQ = ("input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask",
            "encoder_outputs", "cache", "inputs_embeds", "decoder_inputs_embeds",
            "labels", "use_cache", "kwargs")  # fmt: skip
_SEQ2SEQ_CLASSIFIER = tuple(name for name in _SEQ2SEQ if name != "cache")
_ROTARY = ("hidden_states", "position_embeddings", "attention_mask", "cache", "kwargs")


def _norm(names: tuple[str, ...] = ("hidden_states",)) -> Kind:
    return Kind("rows", "rms_norm", rows.rms_norm_rows, names)


def _attention(
    forward: Callable[..., Any], *names: str, obstacle: Callable[[Any], str | None] | None = None
) -> Kind:
    return Kind("attention", "attention", forward, names, obstacle=obstacle or (lambda _: None))


def _stack(
    forward: Callable[..., Any], *names: str, obstacle: Callable[[Any], str | None] | None = None
) -> Kind:
    return Kind(
        "stack", "packing", forward, names, takes_names=True, obstacle=obstacle or (lambda _: None)
    )


def _classifier(places: classifiers.Places, *names: str) -> Kind:
    return Kind("classifier", "packing", classifiers.classify, names, (places,), takes_names=True)


def _loss(
    names: tuple[str, ...], obstacle: Callable[[Any], str | None] | None = None, **fields: Any
) -> Kind:
    return Kind(
        "loss", "linear_cross_entropy", language_loss, names, (LossSpec(**fields),),
        takes_names=True, obstacle=obstacle or (lambda _: None),
    )  # fmt: skip


def _llama_family(name: str, forward: Callable[..., Any]) -> dict[str, Kind]:
    head = (*_LLAMA, "labels", "use_cache", "logits_to_keep", "kwargs")
    return _named(name.lower(), {
        f"{name}RMSNorm": _norm(),
        f"{name}Attention": _attention(forward, *_ROTARY),
        f"{name}Model": _stack(
            stacks.id_stack, *_LLAMA, "use_cache", "kwargs", obstacle=_is_not_causal
        ),
        f"{name}ForCausalLM": _loss(
            head, output="CausalLMOutputWithPast", states=_llama_states, projection="lm_head",
            is_shifted=True,
        ),
        f"{name}ForSequenceClassification": _classifier(
            classifiers.last_places, *_LLAMA, "labels", "use_cache", "kwargs"
        ),
    })  # fmt: skip


def _bert_family(name: str, projection: str, transform: Callable[..., Tensor]) -> dict[str, Kind]:
    layers = ("hidden_states", "attention_mask", *_CROSS, "cache", "use_cache", "kwargs")
    stack = (*_BERT, "cache", "use_cache", "kwargs")
    return _named(name.lower(), {
        f"{name}SelfAttention": _attention(
            attention.bert_attention, "hidden_states", "attention_mask", "cache",
            "kwargs",
        ),
        f"{name}Encoder": Kind("stack", "packing", stacks.bert_layers, layers),
        f"{name}Model": _stack(stacks.bert_stack, *stack, obstacle=_bert_obstacle),
        f"{name}ForMaskedLM": _loss(
            (*_BERT, "labels", "kwargs"), output="MaskedLMOutput", states=_llama_states,
            projection=projection, transform=transform, counts_items=False,
        ),
    })  # fmt: skip


def _named(family: str, kinds: dict[str, Kind]) -> dict[str, Kind]:
    module = f"transformers.models.{family}.modeling_{family}"
    return {f"{module}.{name}": kind for name, kind in kinds.items()}


_GELU = Kind("rows", "gelu (tanh)", rows.gelu_tanh, ("input",))

KINDS: dict[str, Kind] = {
    "torch.nn.modules.normalization.LayerNorm": Kind(
        "rows", "layer_norm", rows.layer_norm_rows, ("input",), obstacle=_layer_norm_obstacle
    ),
    "transformers.activations.NewGELUActivation": _GELU,
    "transformers.activations.FastGELUActivation": _GELU,
    **_named("gpt2", {
        "GPT2Attention": _attention(
            attention.gpt2_attention, "hidden_states", "cache", "attention_mask",
            *_CROSS, "output_attentions", "kwargs",
        ),
        "GPT2Model": _stack(
            stacks.id_stack, *_GPT2, "use_cache", "kwargs", obstacle=_gpt2_obstacle
        ),
        "GPT2LMHeadModel": _loss(
            (*_GPT2, "labels", "use_cache", "logits_to_keep", "kwargs"),
            output="CausalLMOutputWithCrossAttentions", states=_llama_states,
            projection="lm_head", is_shifted=True,
        ),
        "GPT2ForSequenceClassification": _classifier(
            classifiers.last_places, *_GPT2[:-2], "labels", "use_cache", "kwargs"
        ),
    }),
    **_llama_family("Llama", attention.llama_attention),
    **_llama_family("Mistral", attention.mistral_attention),
    **_llama_family("Qwen2", attention.qwen_attention),
    **_llama_family("Qwen3", attention.qwen_attention),
    **_bert_family("Bert", "cls.predictions.decoder", _bert_transform),
    **_bert_family("Roberta", "lm_head.decoder", _roberta_transform),
    **_named("roberta", {
        "RobertaForSequenceClassification": _classifier(
            classifiers.first_places, "input_ids", "attention_mask", "token_type_ids",
            "position_ids", "inputs_embeds", "labels", "kwargs",
        ),
    }),
    **_named("modernbert", {
        "ModernBertAttention": _attention(attention.modernbert_attention, *_ROTARY[:3], "kwargs"),
        "ModernBertModel": _stack(stacks.id_stack, *_IDS, "inputs_embeds", "kwargs"),
        "ModernBertForMaskedLM": _loss(
            (*_IDS, "inputs_embeds", "labels", "kwargs"), _sparse_obstacle,
            output="MaskedLMOutput", states=_llama_states, projection="decoder",
            transform=_modernbert_transform,
        ),
        "ModernBertForSequenceClassification": _classifier(
            classifiers.first_places, *_IDS, "inputs_embeds", "labels", "kwargs"
        ),
    }),
    **_named("t5", {
        "T5LayerNorm": _norm(),
        "T5Attention": _attention(
            attention.t5_attention, "hidden_states", "mask", "key_value_states", "position_bias",
            "cache", "kwargs", obstacle=_t5_obstacle,
        ),
        "T5Stack": _stack(
            stacks.id_stack, "input_ids", "attention_mask", *_CROSS, "inputs_embeds",
            "cache", "use_cache", "kwargs", obstacle=_t5_stack_obstacle,
        ),
        "T5ForConditionalGeneration": _loss(
            _SEQ2SEQ, output="Seq2SeqLMOutput", states=_t5_states, projection="lm_head",
            counts_items=False, mask="decoder_attention_mask",
        ),
        "T5ForSequenceClassification": _classifier(classifiers.end_places, *_SEQ2SEQ_CLASSIFIER),
    }),
    **_named("bart", {
        "BartAttention": _attention(
            attention.bart_attention, "hidden_states", "key_value_states", "cache",
            "attention_mask", "kwargs",
        ),
        "BartEncoder": _stack(stacks.bart_stack, *_IDS[:2], "inputs_embeds", "kwargs"),
        "BartDecoder": _stack(
            stacks.bart_stack, *_IDS[:2], *_CROSS, "cache", "inputs_embeds",
            "use_cache", "kwargs", obstacle=_is_not_causal,
        ),
        "BartForConditionalGeneration": _loss(
            _SEQ2SEQ, output="Seq2SeqLMOutput", states=_bart_states, projection="lm_head",
            counts_items=False, bias="final_logits_bias", mask="decoder_attention_mask",
        ),
        "BartForSequenceClassification": _classifier(
            classifiers.end_places, *_SEQ2SEQ_CLASSIFIER
        ),
    }),
}  # fmt: skip

"""ModelConfig: one frozen description of every model; families and sizes are data."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from weldlm.config.size import count_parameters
from weldlm.field_types import require_integers

__all__ = [
    "Activation",
    "FamilyName",
    "HeadKind",
    "ModelConfig",
    "Norm",
    "NormPlace",
    "Pooler",
    "Pooling",
    "Positions",
    "RotaryScaling",
]

FamilyName = Literal[
    "gpt2",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3_text",
    "bert",
    "roberta",
    "distilbert",
    "modernbert",
    "t5",
    "bart",
    "marian",
]
Norm = Literal["layer_norm", "rms_norm"]
NormPlace = Literal["pre", "post", "both"]
Positions = Literal["learned", "sinusoidal", "rotary", "relative", "none"]
Activation = Literal["gelu", "gelu_tanh", "silu", "relu"]
# what a model's hidden states are used for
HeadKind = Literal[
    "causal_lm",
    "masked_lm",
    "seq2seq_lm",
    "sequence_classification",
    "regression",
    "token_classification",
    "question_answering",
    "embedding",
]
Pooling = Literal["first", "last", "mean"]
Pooler = Literal["tanh", "relu", "transform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryScaling:
    """How rotary frequencies are stretched for contexts longer than a model was first trained on.

    `linear` divides all frequencies by `factor` (Chen et al. 2023, arXiv:2306.15595). `llama3`
    divides those that turn less than `low_frequency_factor` times within `original_context_length`,
    leaves those that turn more than `high_frequency_factor` times, and blends between (Llama 3.1).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_context_length: int = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything that decides the maths of a model, apart from its weights."""

    family: FamilyName  # the Hugging Face format that holds its weights
    vocab_size: int  # number of token ids
    context_length: int  # most tokens in one sequence
    hidden_size: int  # width of the residual stream
    num_layers: int  # of the decoder, where there are two stacks
    num_encoder_layers: int = 0  # above 0: an encoder-decoder model
    num_heads: int  # query heads
    num_kv_heads: int  # key/value heads; fewer than num_heads is GQA
    head_dim: int  # channels of one head
    intermediate_size: int  # width inside the MLP

    norm: Norm
    norm_eps: float
    norm_place: NormPlace = "pre"  # of a sublayer: before it, after the residual sum, or around it
    norm_adds_one: bool = False  # weights are stored less one (Gemma)
    has_norm_bias: bool = True  # of layer_norm
    has_first_norm: bool = True  # before the first attention; not after an embedding norm
    has_embedding_norm: bool = False
    embedding_scale: float = 1.0

    positions: Positions
    position_offset: int = 0  # row of the first position in a learned table
    num_token_types: int = 0  # segments with an embedding of their own (BERT)
    rotary_base: float = 10_000.0
    rotary_local_base: float | None = None  # of windowed layers, where it differs
    rotary_scaling: RotaryScaling | None = None  # of layers without a base of their own
    num_relative_buckets: int = 0
    relative_max_distance: int = 0  # from here on all distances share a bucket

    is_causal: bool = True
    window: int | None = None  # a token sees only tokens less than this many places away
    window_pattern: tuple[bool, ...] = (True,)  # which layers have the window, repeated
    attention_scale: float | None = None  # 1 / sqrt(head_dim) where None
    attention_softcap: float | None = None
    has_qk_norm: bool = False  # q and k of each head are normalized

    activation: Activation
    is_gated: bool  # MLP is down(activation(gate(x)) * up(x)) instead of down(activation(up(x)))
    has_bias: bool  # linear layers have a bias
    has_qkv_bias: bool | None = None  # of q, k and v, where it differs from has_bias
    has_mlp_bias: bool | None = None  # of the MLP, where it differs from has_bias

    tie_embeddings: bool  # the head shares the token embedding
    head_scale: float = 1.0  # of the hidden states before the head
    has_head_bias: bool = False
    has_transform: bool = False  # the vocabulary head begins with dense, activation and norm
    logits_softcap: float | None = None
    labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")  # of a classifier, or numbers of a regression
    pooling: Pooling = "last"  # which hidden state stands for a sequence
    pooler: Pooler | None = None  # what it passes before the classifier

    bos_id: int | None = None
    eos_id: int | None = None
    more_eos_ids: tuple[int, ...] = ()  # others that end a sequence
    pad_id: int | None = None
    decoder_start_id: int | None = None  # what a target sequence begins with

    def __post_init__(self) -> None:
        require_integers(self)
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        for name in ("bos_id", "eos_id", "decoder_start_id"):
            token_id = getattr(self, name)
            if token_id is not None and not 0 <= token_id < self.vocab_size:
                raise ValueError(
                    f"{name} is {token_id}; expected an id below vocab_size {self.vocab_size}"
                )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; rotary positions need an even number")
        if self.positions == "relative" and (self.num_relative_buckets < 4):
            raise ValueError(
                f"num_relative_buckets is {self.num_relative_buckets}; expected at least 4 for "
                "relative positions"
            )
        if self.window is not None and self.window < 1:
            raise ValueError(f"window is {self.window}; expected at least 1, or None")
        if not self.labels:
            raise ValueError("labels is empty; expected at least one name")
        if not self.window_pattern:
            raise ValueError("window_pattern is empty; expected one truth value a layer, repeated")

    @property
    def qkv_has_bias(self) -> bool:
        return self.has_bias if self.has_qkv_bias is None else self.has_qkv_bias

    @property
    def mlp_has_bias(self) -> bool:
        return self.has_bias if self.has_mlp_bias is None else self.has_mlp_bias

    @property
    def has_final_norm(self) -> bool:
        return self.norm_place != "post"

    @property
    def is_decoder(self) -> bool:
        """Whether it is one stack that predicts the next token."""
        return self.is_causal and not self.has_cross_attention

    @property
    def has_cross_attention(self) -> bool:
        return self.num_encoder_layers > 0

    @property
    def encoder(self) -> "ModelConfig":
        """The first stack of an encoder-decoder model."""
        return dataclasses.replace(
            self, num_layers=self.num_encoder_layers, num_encoder_layers=0, is_causal=False
        )

    def window_of(self, layer: int) -> int | None:
        return self.window if self.window_pattern[layer % len(self.window_pattern)] else None

    @property
    def num_parameters(self) -> int:
        """Number of weights with the vocabulary head, counting a tied one once."""
        return count_parameters(self)

    def flops_per_token(self, length: int) -> int:
        """Floating-point operations of forward and backward for a token of a `length` sequence.

        6 for each weight that is multiplied, and 12 * q_width * keys for attention in each layer
        (Chowdhery et al. 2022, PaLM, appendix B), with half the keys under a causal mask and at
        most those inside the window.
        """
        embeddings = self.vocab_size * self.hidden_size * (0 if self.tie_embeddings else 1)
        if self.positions == "learned":
            embeddings += (self.context_length + self.position_offset) * self.hidden_size
        multiplied = self.num_parameters - embeddings
        keys = 0
        for layer in range(self.num_layers):
            window = self.window_of(layer) or length
            reach = window if self.is_causal else 2 * window
            keys += min(length if self.is_causal else 2 * length, reach)
        return 6 * multiplied + 6 * keys * self.num_heads * self.head_dim


_POSITIVE = (
    "vocab_size",
    "context_length",
    "hidden_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "intermediate_size",
)

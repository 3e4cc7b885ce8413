"""ModelConfig: one frozen description of every model; families and sizes are data."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

__all__ = ["PRESETS", "ModelConfig", "preset"]

Norm = Literal["layer_norm", "rms_norm"]
Positions = Literal["learned", "rotary"]
Activation = Literal["gelu", "gelu_tanh", "silu", "relu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Everything that decides the maths of a model, apart from its weights."""

    family: Literal["gpt2", "llama"]  # the Hugging Face format that holds its weights
    vocab_size: int  # number of token ids
    context_length: int  # most tokens in one sequence
    hidden_size: int  # width of the residual stream
    num_layers: int
    num_heads: int  # query heads
    num_kv_heads: int  # key/value heads; fewer than num_heads is GQA
    head_dim: int  # channels of one head
    intermediate_size: int  # width inside the MLP
    norm: Norm
    norm_eps: float
    positions: Positions
    rotary_base: float = 10_000.0
    activation: Activation
    is_gated: bool  # MLP is down(activation(gate(x)) * up(x)) instead of down(activation(up(x)))
    has_bias: bool  # linear layers have a bias
    tie_embeddings: bool  # the head shares the token embedding
    bos_id: int | None = None
    eos_id: int | None = None

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        for name in ("bos_id", "eos_id"):
            token_id = getattr(self, name)
            if token_id is not None and not 0 <= token_id < self.vocab_size:
                raise ValueError(
                    f"{name} is {token_id}; expected an id below vocab_size {self.vocab_size}"
                )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"head_dim is {self.head_dim}; rotary positions need an even number")

    @property
    def num_parameters(self) -> int:
        """Number of weights, counting a tied head once."""
        hidden, inner = self.hidden_size, self.intermediate_size
        q, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        up = 2 * inner if self.is_gated else inner
        biases = (q + 2 * kv + hidden + up + hidden) if self.has_bias else 0
        norm = hidden * (2 if self.norm == "layer_norm" else 1)
        block = hidden * (q + 2 * kv + q + up + inner) + biases + 2 * norm
        embeddings = self.vocab_size * (1 if self.tie_embeddings else 2)
        embeddings += self.context_length if self.positions == "learned" else 0
        return self.num_layers * block + norm + embeddings * hidden

    def flops_per_token(self, length: int) -> int:
        """Floating-point operations of forward and backward for a token of a `length` sequence.

        6 for each weight that is multiplied, and 12 * layers * q_width * length for attention
        (Chowdhery et al. 2022, PaLM, appendix B), halved for the causal mask.
        """
        embeddings = self.vocab_size * self.hidden_size * (0 if self.tie_embeddings else 1)
        if self.positions == "learned":
            embeddings += self.context_length * self.hidden_size
        multiplied = self.num_parameters - embeddings
        return 6 * multiplied + 6 * self.num_layers * self.num_heads * self.head_dim * length


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


def _gpt2(num_layers: int, num_heads: int, hidden_size: int) -> ModelConfig:
    return ModelConfig(
        family="gpt2",
        vocab_size=50_257,
        context_length=1_024,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=4 * hidden_size,
        norm="layer_norm",
        norm_eps=1e-5,
        positions="learned",
        activation="gelu_tanh",
        is_gated=False,
        has_bias=True,
        tie_embeddings=True,
        bos_id=50_256,
        eos_id=50_256,
    )


def _llama(
    num_layers: int, num_heads: int, num_kv_heads: int, hidden_size: int, intermediate_size: int
) -> ModelConfig:
    return ModelConfig(
        family="llama",
        vocab_size=32_000,
        context_length=2_048,
        hidden_size=hidden_size,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=hidden_size // num_heads,
        intermediate_size=intermediate_size,
        norm="rms_norm",
        norm_eps=1e-5,
        positions="rotary",
        activation="silu",
        is_gated=True,
        has_bias=False,
        tie_embeddings=False,
        bos_id=1,
        eos_id=2,
    )


PRESETS: dict[str, ModelConfig] = {
    "gpt2": _gpt2(12, 12, 768),
    "gpt2-medium": _gpt2(24, 16, 1_024),
    "gpt2-large": _gpt2(36, 20, 1_280),
    "gpt2-xl": _gpt2(48, 25, 1_600),
    "gpt2-tiny": dataclasses.replace(_gpt2(4, 4, 256), context_length=512),
    "llama-tiny": dataclasses.replace(_llama(4, 4, 2, 256, 704), tie_embeddings=True),
    "llama-160m": _llama(12, 12, 4, 768, 2_048),
    "llama-1b": _llama(22, 32, 4, 2_048, 5_632),
}


def preset(name: str, **changes: object) -> ModelConfig:
    """Returns the preset `name` with some fields changed.

    Another `vocab_size` leaves `bos_id` and `eos_id` unset where they are not given too.

    Raises:
        ValueError: no such preset or field.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} does not exist; expected one of {', '.join(PRESETS)}")
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    unknown = sorted(set(changes) - known)
    if unknown:
        names = ", ".join(sorted(known))
        raise ValueError(f"ModelConfig has no field {unknown[0]!r}; it has {names}")
    if "vocab_size" in changes:
        changes = {"bos_id": None, "eos_id": None, **changes}
    return dataclasses.replace(PRESETS[name], **changes)  # type: ignore[arg-type]

"""SamplingSettings: how tokens are chosen and when a sequence ends, checked by name."""

import math
from dataclasses import dataclass
from typing import Literal

from weldlm.field_types import require_integers

__all__ = ["SamplingSettings"]

_MIN_TEMPERATURE = 1e-5  # scores divided by less could overflow fp32
_MAX_SEED = 2**63 - 1
_MOST_LOGPROBS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How tokens are chosen and when a sequence ends."""

    max_tokens: int = 128  # most new tokens
    min_tokens: int = 0  # before them nothing ends a sequence but a full context
    temperature: float = 0.0  # 0 takes the most probable token
    top_k: int = 0  # keeps the k most probable tokens; 0 keeps all
    top_p: float = 1.0  # keeps the most probable tokens that together reach this probability
    min_p: float = 0.0  # keeps tokens of at least this share of the highest probability
    typical_p: float = 1.0  # keeps tokens near the expected information up to this probability
    repetition_penalty: float = 1.0  # divides scores above 0 of tokens there are, multiplies others
    presence_penalty: float = 0.0  # taken off the scores of new tokens that occurred
    frequency_penalty: float = 0.0  # taken off for each time that a new token occurred
    no_repeat_ngram: int = 0  # no run of so many tokens occurs twice; 0 allows all
    logit_bias: tuple[tuple[int, float], ...] = ()  # (id, what is added to its score)
    allowed_ids: tuple[int, ...] = ()  # none but these; empty allows all
    bad_words: tuple[str, ...] = ()  # texts that no completion holds, alone or after a space
    bad_ids: tuple[tuple[int, ...], ...] = ()  # runs of tokens that do not occur
    seed: int = 0
    stop: tuple[str, ...] = ()  # texts that end a sequence; not part of the completion
    stop_ids: tuple[int, ...] = ()  # tokens that end a sequence, beside the model's own
    ignore_eos: bool = False  # the model's own end of text does not end a sequence
    n: int = 1  # completions of each prompt
    best_of: int | None = None  # sequences of which the n most probable ones are kept; n if None
    num_beams: int = 1  # above 1: beam search, of which the n best are kept
    length_penalty: float = 1.0  # beams are compared by log-probability / length ** this
    early_stopping: bool | Literal["never"] = False  # of beams, as in transformers
    logprobs: int | None = None  # of each new token, and of so many of the most probable
    prompt_logprobs: int | None = None  # the same for the prompt's tokens

    def __post_init__(self) -> None:
        require_integers(self)
        self._check_choice()
        self._check_rules()
        self._check_end()
        self._check_number()

    @property
    def num_sequences(self) -> int:
        """Sequences that are under way for one prompt."""
        if self.num_beams > 1:
            return self.num_beams
        return self.n if self.best_of is None else self.best_of

    @property
    def is_streamed(self) -> bool:
        """Whether a new token is part of the result at once."""
        return self.num_beams == 1 and self.num_sequences == self.n

    def _check_choice(self) -> None:
        _require(
            self.temperature == 0 or _MIN_TEMPERATURE <= self.temperature < math.inf,
            "temperature",
            self.temperature,
            f"0 (the most probable token) or at least {_MIN_TEMPERATURE}",
        )
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (keep all) or more")
        _require(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1 (keep all)")
        _require(0 <= self.min_p <= 1, "min_p", self.min_p, "0 (keep all) to 1")
        _require(
            0 < self.typical_p <= 1, "typical_p", self.typical_p, "above 0 and at most 1 (keep all)"
        )
        _require(0 <= self.seed <= _MAX_SEED, "seed", self.seed, f"0 to {_MAX_SEED}")

    def _check_rules(self) -> None:
        _require(
            0 < self.repetition_penalty < math.inf,
            "repetition_penalty",
            self.repetition_penalty,
            "a finite number above 0; 1 changes nothing",
        )
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _require(math.isfinite(value), name, value, "a finite number; 0 changes nothing")
        _require(
            self.no_repeat_ngram >= 0, "no_repeat_ngram", self.no_repeat_ngram, "0 (all) or more"
        )
        _require(
            all(token_id >= 0 and not math.isnan(bias) for token_id, bias in self.logit_bias),
            "logit_bias",
            self.logit_bias,
            "pairs of an id of at least 0 and a number",
        )
        _require_ids("allowed_ids", self.allowed_ids)
        _require_texts("bad_words", self.bad_words)
        for ids in self.bad_ids:
            _require_ids("bad_ids", ids)
            _require(bool(ids), "bad_ids", self.bad_ids, "runs of at least one id")

    def _check_end(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", self.max_tokens, "at least 1")
        _require(
            0 <= self.min_tokens <= self.max_tokens,
            "min_tokens",
            self.min_tokens,
            f"0 to max_tokens, {self.max_tokens}",
        )
        _require_texts("stop", self.stop)
        _require_ids("stop_ids", self.stop_ids)

    def _check_number(self) -> None:
        _require(self.n >= 1, "n", self.n, "at least 1")
        _require(self.num_beams >= 1, "num_beams", self.num_beams, "at least 1 (no beam search)")
        if self.best_of is not None:
            _require(self.best_of >= self.n, "best_of", self.best_of, f"at least n, {self.n}")
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            _require(
                value is None or 0 <= value <= _MOST_LOGPROBS,
                name,
                value,
                f"0 to {_MOST_LOGPROBS}, or None for none",
            )
        if self.num_beams > 1:
            self._check_beams()
        elif self.temperature == 0 and self.num_sequences > 1:
            raise ValueError(
                f"n or best_of is {self.num_sequences} at temperature 0; expected 1, because all "
                "would be equal; raise temperature or set num_beams"
            )

    def _check_beams(self) -> None:
        _require(self.n <= self.num_beams, "n", self.n, f"at most num_beams, {self.num_beams}")
        _require(
            self.early_stopping in (True, False, "never"),
            "early_stopping",
            self.early_stopping,
            "True, False or 'never'",
        )
        _require(
            math.isfinite(self.length_penalty),
            "length_penalty",
            self.length_penalty,
            "a finite number",
        )
        for name in ("temperature", "best_of", "logprobs"):
            if getattr(self, name):
                raise ValueError(
                    f"{name} is {getattr(self, name)} with num_beams {self.num_beams}; expected "
                    f"one of them; leave {name} out, or num_beams"
                )


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}; expected {expected}")


def _require_ids(name: str, ids: tuple[int, ...]) -> None:
    _require(all(token_id >= 0 for token_id in ids), name, ids, "ids of at least 0")


def _require_texts(name: str, texts: tuple[str, ...]) -> None:
    _require(not isinstance(texts, str), name, texts, "a tuple of texts")
    if not all(texts):
        raise ValueError(
            f"{name} has an empty text; expected texts of at least one character; leave it out"
        )

"""adapter_config.json of PEFT, both ways; what would change the maths unseen is refused by name."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weldlm.adapters.places import Place, places
from weldlm.config import HeadKind
from weldlm.families import FAMILIES
from weldlm.heads import Model
from weldlm.layers import LoraPair
from weldlm.text_file import decode_text, parse_json

__all__ = ["CONFIG", "PeftConfig", "read_peft_config", "their_adapter_config"]

CONFIG = "adapter_config.json"

# fields that are read, that only say where pairs are (their tensors do, too), that only decide how
# training begins, or that hold for a way of execution
_UNDERSTOOD = {
    *("peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern"),
    *("alpha_pattern", "bias", "init_lora_weights", "fan_in_fan_out", "modules_to_save"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("task_type", "inference_mode", "auto_mapping", "base_model_name_or_path", "revision"),
    *("peft_version", "runtime_config", "ensure_weight_tying", "eva_config", "corda_config"),
    *("lora_ga_config", "loftq_config", "megatron_core", "qalora_group_size"),
}
# starts that leave the base weights alone; others (pissa, olora, loftq) train against changed ones
_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
_TASKS: dict[HeadKind, str | None] = {
    "causal_lm": "CAUSAL_LM",
    "masked_lm": None,
    "seq2seq_lm": "SEQ_2_SEQ_LM",
    "sequence_classification": "SEQ_CLS",
    "regression": "SEQ_CLS",
    "token_classification": "TOKEN_CLS",
    "question_answering": "QUESTION_ANS",
    "embedding": "FEATURE_EXTRACTION",
}
_BLOCK = re.compile(r".*\.\d+\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftConfig:
    """What of an adapter_config.json decides the maths."""

    path: Path
    rank: int
    alpha: float
    dropout: float
    use_rslora: bool
    rank_pattern: Mapping[str, int]  # by regular expressions over layer names
    alpha_pattern: Mapping[str, float]

    def rank_of(self, layer: str) -> int:
        return int(self._by_pattern(self.rank_pattern, layer, self.rank))

    def alpha_of(self, layer: str) -> float:
        return self._by_pattern(self.alpha_pattern, layer, self.alpha)

    def _by_pattern(self, pattern: Mapping[str, float], layer: str, default: float) -> float:
        for key, value in pattern.items():
            try:
                is_match = re.match(rf"(.*\.)?({key})$", layer)
            except re.error as error:
                raise ValueError(
                    f"{self.path}: the pattern {key!r} is no regular expression ({error}); mend it"
                ) from error
            if is_match:
                return value
        return default


def read_peft_config(folder: Path) -> PeftConfig:
    """Reads the fields of an adapter.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a field is of a wrong type, or changes the maths in a way that is not supported.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a PEFT folder with an adapter")
    theirs = parse_json(decode_text(path.read_bytes(), str(path)), str(path), expected="an adapter")
    if not isinstance(theirs, dict):
        raise ValueError(f"{path} holds no JSON object; expected the fields of an adapter")
    _check_supported(theirs, path)
    rank = theirs.get("r", 8)
    _check_number(rank, "r", path, is_whole=True)
    alpha, dropout = theirs.get("lora_alpha", 8), theirs.get("lora_dropout", 0.0)
    _check_number(alpha, "lora_alpha", path)
    if not (_is_number(dropout) and 0 <= dropout < 1):
        raise ValueError(f"{path}: lora_dropout is {dropout!r}; expected 0 or more, less than 1")
    return PeftConfig(
        path=path,
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        use_rslora=theirs.get("use_rslora") is True,
        rank_pattern=_pattern(theirs, "rank_pattern", path, is_whole=True),
        alpha_pattern=_pattern(theirs, "alpha_pattern", path),
    )


def their_adapter_config(
    model: Model, pairs: Mapping[Place, LoraPair], *, head: Sequence[str], base: str | None
) -> dict[str, Any]:
    """What adapter_config.json says of an adapter, and of the weights of the head beside it."""
    ranks = {place.theirs: pair.rank for place, pair in pairs.items()}
    alphas = {place.theirs: pair.alpha for place, pair in pairs.items()}
    rank, alpha = _commonest(ranks), _commonest(alphas)
    first = next(iter(pairs.values()))
    return {
        "peft_type": "LORA",
        "task_type": _TASKS[model.kind],
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": first.dropout,
        "use_rslora": first.use_rslora,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": _targets(model, pairs),
        "modules_to_save": _head_modules(model, head) or None,
        # their GPT-2 keeps [in, out]; the pairs themselves are written alike
        "fan_in_fan_out": model.config.family == "gpt2",
        "bias": "none",
        "inference_mode": True,
    }


def _check_supported(theirs: dict[str, Any], path: Path) -> None:
    if theirs.get("peft_type") != "LORA":
        raise ValueError(
            f"{path}: peft_type is {theirs.get('peft_type')!r}, which is not supported; expected "
            "'LORA'"
        )
    required = {"bias": ("none", None), "init_lora_weights": _STARTS}
    for name, values in required.items():
        if theirs.get(name) not in values:
            expected = ", ".join(map(repr, values))
            raise ValueError(
                f"{path}: {name} = {theirs[name]!r} is not supported; expected {expected}"
            )
    for name, value in theirs.items():
        if name not in _UNDERSTOOD and value not in (None, False, [], {}):
            raise ValueError(
                f"{path}: {name} = {json.dumps(value)} is not supported; expected none; train the "
                "adapter without it"
            )


def _pattern(
    theirs: dict[str, Any], name: str, path: Path, *, is_whole: bool = False
) -> dict[str, Any]:
    pattern = theirs.get(name) or {}
    if not isinstance(pattern, dict):
        raise ValueError(f"{path}: {name} is {pattern!r}; expected numbers by layer")
    for key, value in pattern.items():
        _check_number(value, f"{name}[{key!r}]", path, is_whole=is_whole)
    return pattern


def _check_number(value: object, name: str, path: Path, *, is_whole: bool = False) -> None:
    if not _is_number(value) or (is_whole and not isinstance(value, int)) or not value > 0:  # type: ignore[operator]
        kind = "an integer" if is_whole else "a number"
        raise ValueError(f"{path}: {name} is {value!r}; expected {kind} above 0")


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]


def _commonest(values: Mapping[str, Any]) -> Any:
    [(value, _)] = Counter(values.values()).most_common(1)
    return value


def _targets(model: Model, pairs: Mapping[Place, LoraPair]) -> list[str]:
    """Names inside a block where they say it all, else names of all layers."""
    chosen = {place.theirs for place in pairs}
    short = {_BLOCK.sub("", name) for name in chosen}
    matched = {
        place.theirs
        for place in places(model)
        if any(f".{place.theirs}".endswith(f".{name}") for name in short)
    }
    return sorted(short if matched == chosen else chosen)


def _head_modules(model: Model, head: Sequence[str]) -> list[str]:
    """The modules of theirs that hold these weights."""
    prefix = FAMILIES[model.config.family].prefix
    layers = {name.rpartition(".")[0] for name in head}
    return sorted({name if name.startswith(prefix) else name.split(".")[0] for name in layers})

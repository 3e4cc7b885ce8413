"""TrainSettings: everything that decides a training run, apart from the model and the data."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from weldlm.field_types import require_integers

__all__ = [
    "OnTrouble",
    "OptimizerName",
    "Parallel",
    "Schedule",
    "StateDictType",
    "TrainSettings",
]

OnTrouble = Literal["stop", "skip", "roll_back"]
OptimizerName = Literal["adamw", "muon", "adafactor"]
Parallel = Literal["auto", "none", "ddp", "fsdp"]
StateDictType = Literal["full", "sharded"]
Schedule = Literal["cosine", "linear", "wsd", "inverse_sqrt", "constant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Give `steps`, `epochs` or `minutes`; whatever is None is filled in when the run starts.

    A row is `row_length` tokens of text, or an example where the data is labelled.
    """

    steps: int | None = None  # optimizer steps
    epochs: float | None = None  # times that everything is seen; turned into steps
    minutes: float | None = None  # wall-clock budget; turned into steps once, by measuring some
    rows_per_step: int = 8  # rows that one optimizer step learns from
    row_length: int | None = None  # tokens in a row; the model's context_length where None
    micro_batch_rows: int | None = None  # rows in one forward; rows_per_step where None
    micro_batch_tokens: int | None = None  # most tokens of examples in one forward
    lr: float = 6e-4  # peak learning rate
    min_lr_fraction: float = 0.1  # of lr, down to which schedule takes it
    warmup_steps: int | None = None  # steps of linear rise; a tenth, at most 100, where None
    weight_decay: float = 0.1  # on weight matrices; not on vectors
    betas: tuple[float, float] = (
        0.9,
        0.95,
    )  # decay of AdamW's averages of the gradient and of its square
    eps: float = 1e-8  # added to AdamW's denominator
    clip_norm: float | None = 1.0  # largest global gradient norm; unlimited where None
    optimizer: OptimizerName = "adamw"  # muon: hidden matrices; slow on a CPU without bf16
    schedule: Schedule = "cosine"  # of the learning rate after its rise
    decay_fraction: float = 0.2  # of the steps; wsd (warm-up, stable, decay) decays in these last
    layer_decay: float | None = None  # lr of a layer by that of the one above; one lr where None
    ema_decay: float | None = None  # of an average of the weights, the model; no average where None
    checkpoint_activations: bool = False  # keep less for backward: compute each block twice
    seed: int = 0  # order of the documents and of all random draws
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # of the matrix products
    parallel: Parallel = "auto"  # over the ranks of torchrun and others; none: each for itself
    on_not_finite: OnTrouble = "stop"  # what a loss or gradient that is not finite leads to
    on_spike: Literal["ignore"] | OnTrouble = "ignore"  # what a leap of the loss leads to
    spike_ratio: float = 3.0  # of a loss to the median of the 32 before, above which it leaps
    eval_every: int | None = None  # steps between validations; only at the end where None
    eval_rows: int | None = None  # rows of a validation; the whole set where None
    save_every: int | None = None  # steps between checkpoints; a tenth of the run where None
    keep_checkpoints: int = 2  # newest ones that stay; older ones but the best are removed
    state_dict_type: StateDictType = "full"  # of checkpoints; sharded: each rank writes its part
    async_save: bool = False  # write sharded checkpoints while training goes on
    peak_tflops: float | None = None  # of one device, 10^12 operations a second; reports MFU
    best_metric: str | None = None  # of a validation; the checkpoint where it is best is kept
    best_is: Literal["lowest", "highest"] = "lowest"  # which value of best_metric is best
    patience: int | None = None  # validations without a better best_metric that end the run

    def __post_init__(self) -> None:
        require_integers(self)
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        for name in _ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} is {value}; expected a finite number above 0")
        if self.minutes is not None and self.minutes > _MOST_MINUTES:
            raise ValueError(
                f"minutes is {self.minutes:g}; expected at most {_MOST_MINUTES}, a year; give fewer"
            )
        for name in _AT_LEAST_ZERO:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} is {value}; expected at least 0")
        if not 0 <= self.min_lr_fraction <= 1:
            raise ValueError(f"min_lr_fraction is {self.min_lr_fraction}; expected 0 to 1")
        for index, beta in enumerate(self.betas):
            if not 0 <= beta < 1:
                raise ValueError(f"betas[{index}] is {beta}; expected at least 0 and below 1")
        for name, names in _NAMES.items():
            if getattr(self, name) not in names:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(names)}"
                )
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is {value}; expected above 0 and at most 1")
        if self.steps is not None and (self.warmup_steps or 0) > self.steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps}; expected at most steps, {self.steps}"
            )
        if self.steps is None and self.minutes is None and self.epochs is None:
            raise ValueError("none of steps, epochs and minutes is given; expected one of them")
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("epochs and minutes are both given; expected one of them")
        if not self.spike_ratio > 1:
            raise ValueError(f"spike_ratio is {self.spike_ratio}; expected more than 1")
        if self.patience is not None and self.best_metric is None:
            raise ValueError("patience is given without best_metric; expected what it waits for")
        if self.async_save and self.state_dict_type != "sharded":
            raise ValueError(
                f"async_save is set with state_dict_type {self.state_dict_type}; expected sharded: "
                "only checkpoints in parts are written while training goes on; set it, or leave "
                "async_save out"
            )
        if self.row_length == 1:
            raise ValueError("row_length is 1; expected at least 2, a token and its successor")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed is {self.seed}; expected 0 to 2**63 - 1")

    def changed(self, **changes: Any) -> "TrainSettings":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainSettings":
        """Rebuilds the settings from `dataclasses.asdict` that went through JSON."""
        return cls(**{**values, "betas": tuple(values["betas"])})


# what a resumed run may change: it alters when things are reported or saved, or only rounding
FREE_TO_CHANGE = frozenset(
    (
        "minutes",
        "micro_batch_rows",
        "micro_batch_tokens",
        "parallel",
        "eval_every",
        "eval_rows",
        "save_every",
        "keep_checkpoints",
        "state_dict_type",
        "async_save",
        "peak_tflops",
    )
)

_NAMES: dict[str, tuple[str, ...]] = {
    "optimizer": get_args(OptimizerName),
    "parallel": get_args(Parallel),
    "schedule": get_args(Schedule),
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "state_dict_type": get_args(StateDictType),
    "on_not_finite": get_args(OnTrouble),
    "on_spike": ("ignore", *get_args(OnTrouble)),
    "best_is": ("lowest", "highest"),
}
_MOST_MINUTES = 366 * 24 * 60
_AT_LEAST_ONE = (
    "steps",
    "rows_per_step",
    "row_length",
    "micro_batch_rows",
    "micro_batch_tokens",
    "eval_every",
    "eval_rows",
    "save_every",
    "keep_checkpoints",
    "patience",
)
_ABOVE_ZERO = ("peak_tflops", "minutes", "epochs", "lr", "eps", "clip_norm")
_SHARES = ("decay_fraction", "layer_decay", "ema_decay")
_AT_LEAST_ZERO = ("weight_decay", "warmup_steps")

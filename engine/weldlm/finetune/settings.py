"""FinetuneSettings: what decides a fine-tuning, apart from model, data and the training itself."""

from dataclasses import dataclass
from typing import Literal

from weldlm.adapters import LoraSettings
from weldlm.data.rows import OnError
from weldlm.tasks import TASKS, TaskName, TooLong

__all__ = ["LORA_FIELDS", "TRAINING_FIELDS", "FinetuneSettings"]

# fields of TrainSettings that a fine-tuning is mostly given, and remembers
TRAINING_FIELDS = (
    "epochs",
    "steps",
    "lr",
    "rows_per_step",
    "micro_batch_rows",
    "micro_batch_tokens",
    "warmup_steps",
    "weight_decay",
    "schedule",
    "layer_decay",
    "ema_decay",
    "checkpoint_activations",
    "dtype",
    "parallel",
)
# of LoraSettings; what the task says of its head decides trains_head
LORA_FIELDS = ("rank", "alpha", "dropout", "targets", "use_rslora")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """Whatever is None is that of the task."""

    task: TaskName
    seed: int = 0  # of a new head's weights and of the order of rows
    held_out: float = 0.1  # share of the rows that the result is judged on
    valid: float = 0.1  # share of the rows that choose the best epoch
    class_weights: Literal["equal", "balanced"] = "equal"  # balanced: all labels weigh alike
    patience: int | None = (
        2  # epochs without a better result that end the run; unlimited where None
    )
    too_long: TooLong | None = None  # what becomes of rows that the model cannot take whole
    max_length: int | None = (
        None  # most tokens of a sequence; as many as the model takes where None
    )
    text_columns: tuple[str, ...] = ()  # found by their names where empty
    label_column: str | None = None  # found by its name where None
    on_error: OnError = "stop"  # what becomes of bad rows
    lora: LoraSettings | None = None  # an adapter is trained, not the model; the model where None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task is {self.task!r}; expected one of {', '.join(TASKS)}")
        for name in ("held_out", "valid"):
            value = getattr(self, name)
            if not 0 < value < 0.5:
                raise ValueError(f"{name} is {value}; expected a share above 0 and below 0.5")
        if self.class_weights not in ("equal", "balanced"):
            raise ValueError(f"class_weights is {self.class_weights!r}; expected equal or balanced")
        head = TASKS[self.task].head
        if self.class_weights == "balanced" and head != "sequence_classification":
            raise ValueError(
                f"class_weights is balanced for the task {self.task}; expected equal: only the "
                "labels of whole texts have weights"
            )

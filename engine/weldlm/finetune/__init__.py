"""Fine-tuning for a task: rows in, the model folder of the best epoch and its figures out."""

from weldlm.finetune.run import FinetuneResult, finetune
from weldlm.finetune.settings import TRAINING_FIELDS, FinetuneSettings
from weldlm.finetune.teaching import Teaching

__all__ = ["TRAINING_FIELDS", "FinetuneResult", "FinetuneSettings", "Teaching", "finetune"]

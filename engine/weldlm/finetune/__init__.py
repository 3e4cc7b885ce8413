"""Fine-tuning for a task: rows in, the model folder of the best epoch and its figures out."""

from weldlm.finetune.run import FinetuneResult, finetune
from weldlm.finetune.settings import FinetuneSettings

__all__ = ["FinetuneResult", "FinetuneSettings", "finetune"]

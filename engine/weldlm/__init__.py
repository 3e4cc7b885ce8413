"""weldlm: a lean transformer engine with fused kernels.

Public names are looked up when first used, so that `import weldlm` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weldlm.adapters import LoraSettings as LoraSettings
    from weldlm.adapters import add_lora as add_lora
    from weldlm.adapters import dequantize_base as dequantize_base
    from weldlm.adapters import disable_adapters as disable_adapters
    from weldlm.adapters import freeze as freeze
    from weldlm.adapters import load_adapter as load_adapter
    from weldlm.adapters import merge_lora as merge_lora
    from weldlm.adapters import quantize_base as quantize_base
    from weldlm.adapters import remove_adapters as remove_adapters
    from weldlm.adapters import resize_vocabulary as resize_vocabulary
    from weldlm.adapters import save_adapter as save_adapter
    from weldlm.adapters import set_adapter as set_adapter
    from weldlm.adapters import unfreeze as unfreeze
    from weldlm.adapters import unmerge_lora as unmerge_lora
    from weldlm.adapters import with_head as with_head
    from weldlm.collator import PackedCollator as PackedCollator
    from weldlm.config import ModelConfig as ModelConfig
    from weldlm.config import preset as preset
    from weldlm.generation import generate as generate
    from weldlm.heads import CausalLM as CausalLM
    from weldlm.heads import MaskedLM as MaskedLM
    from weldlm.heads import PaddedModel as PaddedModel
    from weldlm.heads import QuestionAnswerer as QuestionAnswerer
    from weldlm.heads import Regressor as Regressor
    from weldlm.heads import SentenceEmbedder as SentenceEmbedder
    from weldlm.heads import Seq2SeqLM as Seq2SeqLM
    from weldlm.heads import SequenceClassifier as SequenceClassifier
    from weldlm.heads import TokenClassifier as TokenClassifier
    from weldlm.lightning_callback import LightningCallback as LightningCallback
    from weldlm.packing import PackedBatch as PackedBatch
    from weldlm.patching import patch as patch
    from weldlm.quantization import pack_model as pack_model
    from weldlm.quantization import quantize_model as quantize_model
    from weldlm.sampling import SamplingSettings as SamplingSettings
    from weldlm.tokenizer import Tokenizer as Tokenizer
    from weldlm.train_settings import TrainSettings as TrainSettings
    from weldlm.trainer import Trainer as Trainer
    from weldlm.trainer_callback import TrainerCallback as TrainerCallback
    from weldlm.weights import load_pretrained as load_pretrained
    from weldlm.weights import save_pretrained as save_pretrained
    from weldlm.weights import save_quantized as save_quantized

__version__ = "0.1.0"

_HOMES = {
    "CausalLM": "weldlm.heads",
    "LightningCallback": "weldlm.lightning_callback",
    "LoraSettings": "weldlm.adapters",
    "MaskedLM": "weldlm.heads",
    "ModelConfig": "weldlm.config",
    "PackedBatch": "weldlm.packing",
    "PackedCollator": "weldlm.collator",
    "PaddedModel": "weldlm.heads",
    "QuestionAnswerer": "weldlm.heads",
    "Regressor": "weldlm.heads",
    "SamplingSettings": "weldlm.sampling",
    "SentenceEmbedder": "weldlm.heads",
    "Seq2SeqLM": "weldlm.heads",
    "SequenceClassifier": "weldlm.heads",
    "TokenClassifier": "weldlm.heads",
    "Tokenizer": "weldlm.tokenizer",
    "TrainSettings": "weldlm.train_settings",
    "Trainer": "weldlm.trainer",
    "TrainerCallback": "weldlm.trainer_callback",
    "add_lora": "weldlm.adapters",
    "dequantize_base": "weldlm.adapters",
    "disable_adapters": "weldlm.adapters",
    "freeze": "weldlm.adapters",
    "generate": "weldlm.generation",
    "load_adapter": "weldlm.adapters",
    "load_pretrained": "weldlm.weights",
    "merge_lora": "weldlm.adapters",
    "pack_model": "weldlm.quantization",
    "patch": "weldlm.patching",
    "preset": "weldlm.config",
    "quantize_base": "weldlm.adapters",
    "quantize_model": "weldlm.quantization",
    "remove_adapters": "weldlm.adapters",
    "resize_vocabulary": "weldlm.adapters",
    "save_adapter": "weldlm.adapters",
    "save_pretrained": "weldlm.weights",
    "save_quantized": "weldlm.weights",
    "set_adapter": "weldlm.adapters",
    "unfreeze": "weldlm.adapters",
    "unmerge_lora": "weldlm.adapters",
    "with_head": "weldlm.adapters",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'weldlm' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""What is changed on a pretrained model before it is trained further.

Adapters (LoRA, also on quantized weights, in folders of PEFT), which weights are trained, new heads
and vocabularies.
"""

from weldlm.adapters.adapted_model import load_adapted
from weldlm.adapters.freezing import (
    freeze,
    frozen_fingerprint,
    load_trainable_state,
    num_trainable_parameters,
    trainable_state,
    unfreeze,
)
from weldlm.adapters.lora import (
    adapter_names,
    add_lora,
    disable_adapters,
    merge_lora,
    remove_adapters,
    set_adapter,
    unmerge_lora,
)
from weldlm.adapters.new_head import HeadReport, with_head
from weldlm.adapters.peft_folder import load_adapter, save_adapter
from weldlm.adapters.quantization import dequantize_base, quantize_base
from weldlm.adapters.settings import LoraSettings
from weldlm.adapters.vocabulary import resize_vocabulary
from weldlm.layers import LoraLinear

__all__ = [
    "HeadReport",
    "LoraLinear",
    "LoraSettings",
    "adapter_names",
    "add_lora",
    "dequantize_base",
    "disable_adapters",
    "freeze",
    "frozen_fingerprint",
    "load_adapted",
    "load_adapter",
    "load_trainable_state",
    "merge_lora",
    "num_trainable_parameters",
    "quantize_base",
    "remove_adapters",
    "resize_vocabulary",
    "save_adapter",
    "set_adapter",
    "trainable_state",
    "unfreeze",
    "unmerge_lora",
    "with_head",
]

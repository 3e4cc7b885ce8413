"""Models on the disk: Hugging Face folders both ways, GGUF files and those of llama2.c in."""

from weldlm.weights.data_package import path_of_model
from weldlm.weights.model_path import StoredModel, load_config, open_model
from weldlm.weights.pooling import read_pooling
from weldlm.weights.pretrained import load_pretrained, save_config, save_pretrained
from weldlm.weights.quantized_folder import save_quantized

__all__ = [
    "StoredModel",
    "load_config",
    "load_pretrained",
    "open_model",
    "path_of_model",
    "read_pooling",
    "save_config",
    "save_pretrained",
    "save_quantized",
]

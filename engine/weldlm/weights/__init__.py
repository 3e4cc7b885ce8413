"""Model folders in Hugging Face's form: config.json and tensors, both ways."""

from weldlm.weights.model_json import load_config
from weldlm.weights.pretrained import load_pretrained, save_pretrained

__all__ = ["load_config", "load_pretrained", "save_pretrained"]

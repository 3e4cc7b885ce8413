"""What a model is: its configuration, the presets, and how many weights they come to."""

from weldlm.config.model_config import (
    Activation,
    FamilyName,
    HeadKind,
    ModelConfig,
    Norm,
    NormPlace,
    Pooler,
    Pooling,
    Positions,
    RotaryScaling,
)
from weldlm.config.presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "Activation",
    "FamilyName",
    "HeadKind",
    "ModelConfig",
    "Norm",
    "NormPlace",
    "Pooler",
    "Pooling",
    "Positions",
    "RotaryScaling",
    "preset",
]

"""Fused kernels and packed sequences inside models of transformers, and their way back."""

from weldlm.patching.installed import uninstall
from weldlm.patching.kinds import TESTED_TRANSFORMERS
from weldlm.patching.patch_model import patch
from weldlm.patching.report import Entry, Report

__all__ = ["TESTED_TRANSFORMERS", "Entry", "Report", "patch", "uninstall"]

"""What is cleaned."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["CleanSettings", "Normalization"]

Normalization = Literal["none", "nfc", "nfkc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanSettings:
    """Which steps a text goes through; as they are here, nothing but its spelling changes."""

    control_characters: bool = False  # keep control characters, which are removed else
    normalization: Normalization = "nfc"  # Unicode form of the text

"""Characters that carry no text: control characters, and several spellings of one character."""

import re
import unicodedata
from typing import Literal

__all__ = ["normalize", "remove_control_characters"]

# C0 and C1 but tab and line feed, zero-width space, byte order mark, bidirectional controls,
# noncharacters; joiners stay, which some scripts and emoji need
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff"
    "\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff]"
)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")


def remove_control_characters(text: str) -> str:
    """Makes every line end a line feed and removes what nobody can see."""
    if _CONTROLS.search(text) is None:
        return text
    return _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))


def normalize(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """Spells every character one way."""
    return text if unicodedata.is_normalized(form, text) else unicodedata.normalize(form, text)

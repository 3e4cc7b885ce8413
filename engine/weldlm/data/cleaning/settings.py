"""What is cleaned."""

from dataclasses import dataclass
from typing import Literal, get_args

from weldlm.data.cleaning.rules import RULES, expand_rules

__all__ = ["CleanSettings", "Normalization", "Secret"]

Normalization = Literal["none", "nfc", "nfkc"]
Secret = Literal["email", "phone", "ip", "key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanSettings:
    """Which steps a text goes through; as they are here, nothing but its spelling changes."""

    repair: bool = False  # mend text that was decoded with a wrong encoding
    keep_control_characters: bool = False  # which are removed else
    normalization: Normalization = "nfc"  # Unicode form of the text
    rules: tuple[str, ...] = ()  # names of `RULES` or sets of them
    without: tuple[str, ...] = ()  # names that `rules` brings and that are left out
    languages: tuple[str, ...] = ()  # codes of the languages that stay; all where there are none
    language_confidence: float = 0.0  # least probability of the language
    redact: tuple[Secret, ...] = ()  # what gives way to a placeholder
    evaluation: tuple[str, ...] = ()  # files of evaluation sets whose texts must not be learned
    overlap: int = 13  # words in a row that a text and an evaluation set have in common

    def __post_init__(self) -> None:
        if self.normalization not in get_args(Normalization):
            raise ValueError(f"normalization is {self.normalization!r}; expected none, nfc or nfkc")
        expand_rules(self.rules)
        for name in self.without:
            if name not in RULES:
                raise ValueError(f"without is {name!r}; expected any of {', '.join(RULES)}")
        for name in self.redact:
            if name not in get_args(Secret):
                known = ", ".join(get_args(Secret))
                raise ValueError(f"redact is {name!r}; expected any of {known}")
        if not 0 <= self.language_confidence <= 1:
            raise ValueError(f"language_confidence is {self.language_confidence}; expected 0 to 1")
        if self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap}; expected at least 1 word")

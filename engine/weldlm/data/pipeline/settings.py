"""How a corpus is read, cleaned, split and encoded."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from weldlm.data.cleaning import CleanSettings
from weldlm.data.rows import OnError
from weldlm.data.sources import ReadSettings

__all__ = ["DataSettings", "Duplicates"]

Duplicates = Literal["keep", "exact", "near"]

_PART_BYTES = 1 << 24
_OF_PARTS = ("text_column", "separator", "cleaning", "part_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """How `prepare_data` makes shards of texts."""

    text_column: str | None = None  # column of tables that holds the texts
    separator: str | None = None  # line between the documents of a text file; "" for empty lines
    include: tuple[str, ...] = ()  # patterns of names, such as *.log, of the files in folders
    on_error: OnError = "stop"  # what becomes of files and rows that cannot be read
    cleaning: CleanSettings = field(default_factory=CleanSettings)  # what is done to each text
    duplicates: Duplicates = "exact"  # which texts that were there before are removed
    similarity: float = 0.8  # share of runs of five words that near duplicates have in common
    held_out: float = 0.02  # share of the documents kept for validation
    frame: bool = True  # each document stands between two end-of-text tokens; not for encoders
    part_bytes: int = _PART_BYTES  # characters of text that a process cleans at a time

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; expected at least 0 and below 1")
        if self.duplicates not in get_args(Duplicates):
            raise ValueError(f"duplicates is {self.duplicates!r}; expected keep, exact or near")
        if not 0 < self.similarity <= 1:
            raise ValueError(f"similarity is {self.similarity}; expected above 0 and at most 1")
        if self.part_bytes < 1:
            raise ValueError(f"part_bytes is {self.part_bytes}; expected at least 1")

    @property
    def reading(self) -> ReadSettings:
        """How files are read."""
        return ReadSettings(self.text_column, self.separator)

    def record(self) -> dict[str, Any]:
        """The settings that the result depends on, as JSON has them."""
        fields = dataclasses.asdict(self)
        del fields["on_error"]
        record: dict[str, Any] = json.loads(json.dumps(fields, default=str))
        return record

    def cleaning_record(self) -> dict[str, Any]:
        """The settings that cleaned parts depend on."""
        record = self.record()
        return {name: record[name] for name in _OF_PARTS} | {"is_signed": self.is_signed}

    @property
    def is_signed(self) -> bool:
        """Whether texts get signatures, by which near duplicates are found."""
        return self.duplicates == "near"

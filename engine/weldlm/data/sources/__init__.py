"""Documents from the files that people have, one after the other, in bounded memory."""

from weldlm.data.sources.evaluation_texts import evaluation_files, read_evaluation
from weldlm.data.sources.reading import ReadSettings, read_source
from weldlm.data.sources.source_files import SourceFile, Sources, find_sources

__all__ = [
    "ReadSettings",
    "SourceFile",
    "Sources",
    "evaluation_files",
    "find_sources",
    "read_evaluation",
    "read_source",
]

"""Documents from the files that people have, one after the other, in bounded memory."""

from weldlm.data.sources.reading import ReadSettings, read_source
from weldlm.data.sources.source_files import SourceFile, Sources, find_sources

__all__ = ["ReadSettings", "SourceFile", "Sources", "find_sources", "read_source"]

"""A corpus of shards from files of many kinds: cleaned, split, encoded, reported."""

from weldlm.data.pipeline.preparation import prepare_data, work_folder
from weldlm.data.pipeline.prepared import PreparedCorpus, is_prepared, open_prepared
from weldlm.data.pipeline.settings import DataSettings
from weldlm.data.pipeline.vocabulary import Learner

__all__ = [
    "DataSettings",
    "Learner",
    "PreparedCorpus",
    "is_prepared",
    "open_prepared",
    "prepare_data",
    "work_folder",
]

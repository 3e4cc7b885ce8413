"""How well predictions agree with what is true, in the measure of each kind of task."""

from weldlm.task_metrics.answers import exact_match, judge_answers, normalize_answer, overlap_f1
from weldlm.task_metrics.entities import Entity, find_entities, is_bio, judge_entities
from weldlm.task_metrics.labels import judge_labels
from weldlm.task_metrics.numbers import judge_numbers
from weldlm.task_metrics.texts import judge_texts

__all__ = [
    "Entity",
    "exact_match",
    "find_entities",
    "is_bio",
    "judge_answers",
    "judge_entities",
    "judge_labels",
    "judge_numbers",
    "judge_texts",
    "normalize_answer",
    "overlap_f1",
]

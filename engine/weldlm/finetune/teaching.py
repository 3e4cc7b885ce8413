"""A fine-tuned teacher beside the labels of a fine-tuning, and what came of it."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weldlm.distill import DistillSettings, distilled
from weldlm.finetune.prepared_data import EncodedSplit
from weldlm.heads import Model, Seq2SeqLM
from weldlm.tasks import EncodedRow

__all__ = ["Teaching"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """What a student learns from."""

    teacher: Model  # with the head and the labels of the task, on the device that trains
    path: Path  # where it came from
    settings: DistillSettings
    # the student of an encoder-decoder learns the texts that the teacher writes in place of those
    # of the rows (Kim & Rush 2016, arXiv:1606.07947), and no distributions
    sequence_level: bool = False

    def learner(self, student: Model) -> Model:
        """Returns what is trained: the student with the loss of the two."""
        if self.sequence_level:
            return student
        return distilled(student, self.teacher, self.settings)  # type: ignore[type-var]

    def taught(self, encoded: EncodedSplit) -> EncodedSplit:
        """Returns the rows with the teacher's texts to learn, where those are asked for.

        Raises:
            ValueError: the teacher writes no texts for sources.
        """
        if not self.sequence_level:
            return encoded
        if not isinstance(self.teacher, Seq2SeqLM):
            raise ValueError(
                f"sequence_level is of encoder-decoders; the teacher's head is of the kind "
                f"{self.teacher.kind}; leave it out"
            )
        predictions = encoded.task.predict(self.teacher, encoded.train)
        rows: list[EncodedRow] = []
        for row, prediction in zip(encoded.train, predictions, strict=True):
            # a teacher that has nothing to say leaves the row as it is
            text = prediction["text"] or row.row.target
            rows.append(encoded.task.encode(replace(row.row, target=text)))
        return replace(encoded, train=rows)

    def figures(self, student: Model, encoded: EncodedSplit) -> dict[str, Any]:
        """Returns size, speed and quality of both on the rows held out."""
        found: dict[str, Any] = {
            "teacher": str(self.path),
            "settings": asdict(self.settings) | {"sequence_level": self.sequence_level},
        }
        for name, model in (("teacher_figures", self.teacher), ("student_figures", student)):
            begin = time.perf_counter()
            predictions = encoded.task.predict(model, encoded.heldout)
            seconds = time.perf_counter() - begin
            found[name] = {
                "num_parameters": sum(weight.numel() for weight in model.parameters()),
                "num_layers": model.config.num_layers,
                "rows_per_second": len(encoded.heldout) / seconds,
                **encoded.task.judge(encoded.heldout, predictions),
            }
        return found

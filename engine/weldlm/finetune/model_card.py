"""The model card of a fine-tuned model: data, settings, figures and limits, in Markdown."""

from typing import Any

from weldlm.model_card import front_matter
from weldlm.tasks import TaskRecord

__all__ = ["write_model_card"]

_SHOWN_SETTINGS = (
    "epochs",
    "steps",
    "lr",
    "rows_per_step",
    "schedule",
    "weight_decay",
    "optimizer",
)
_LIMITS = {
    "error": "refused",
    "truncate": "cut off behind that",
    "split": "read in parts, whose answers are joined",
}


def write_model_card(figures: dict[str, Any], record: TaskRecord) -> str:
    """Returns README.md of a model folder.

    Args:
        figures: what metrics.json holds.
        record: the task of the model.
    """
    counts, training = figures["num_rows"], figures["training"]
    settings = {**training, "steps": figures["steps"]}
    heldout = figures["heldout_data"] or "rows of the same data, chosen by a hash of their content"
    most = "as many tokens as the model takes"
    if record.max_length is not None:
        most = f"{record.max_length} tokens"
    lines = [
        *front_matter(record.kind.head),
        f"# Fine-tuned for {record.task}",
        "",
        f"Made by `weldlm finetune` from `{figures['model']}`. The license is that of the model it "
        "was made from and of the data; fill it in before you pass the model on.",
        "",
        "## Data",
        "",
        f"- rows: `{figures['data']}` ({record.columns})",
        f"- {counts['train']} rows to learn from, {counts['valid']} to choose the best epoch, "
        f"{counts['heldout']} held out; {counts['skipped']} bad rows left out",
        f"- held out: {heldout}",
        *([f"- labels: {', '.join(figures['labels'])}"] if figures["labels"] else []),
        "",
        "## Settings",
        "",
        *(f"- {name}: {settings[name]}" for name in _SHOWN_SETTINGS if settings[name] is not None),
        f"- seed: {figures['settings']['seed']}",
        f"- class weights: {figures['settings']['class_weights']}",
        f"- kept: {figures['best_checkpoint'] or 'the last step'}",
        "",
        "## Figures on the rows held out",
        "",
        "| measure | value |",
        "| --- | --- |",
        *(f"| {name} | {value:.4f} |" for name, value in figures["heldout"].items()),
        "",
        *_distillation(figures.get("distillation")),
        "## Limits",
        "",
        f"- Sequences of at most {most}; longer rows are {_LIMITS[record.too_long]}.",
        "- The figures hold for rows like those above; other sources, times and languages differ.",
        "- Confidences are the model's own probabilities; nothing was done to calibrate them.",
        "- What bias the base model and the data have, this model may have; it was not measured.",
        "",
    ]
    return "\n".join(lines)


def _distillation(found: dict[str, Any] | None) -> list[str]:
    """Teacher and student side by side."""
    if found is None:
        return []
    teacher, student = found["teacher_figures"], found["student_figures"]
    return [
        f"## Distilled from `{found['teacher']}`",
        "",
        "| | teacher | this model |",
        "| --- | --- | --- |",
        *(f"| {name} | {value:,.4g} | {student[name]:,.4g} |" for name, value in teacher.items()),
        "",
    ]

"""The section of a model card that says what bias was measured."""

import re
from pathlib import Path

from weldlm.atomic_file import replace_text
from weldlm.bias.measure import BiasReport
from weldlm.text_file import decode_text

__all__ = ["add_to_card"]

_START = "# Model card\n"
_NOT_MEASURED = re.compile(r"^- What bias .* it was not measured\.\n", re.MULTILINE)


def add_to_card(folder: Path, report: BiasReport) -> Path:
    """Writes the figures into README.md of a model's folder, in place of older ones of this set.

    Returns:
        The card.

    Raises:
        NotADirectoryError: `folder` is no folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder; a model card lies in a model's folder")
    card = folder / "README.md"
    text = decode_text(card.read_bytes(), str(card)) if card.is_file() else _START
    title = f"## Bias: {report.name}\n"
    older = re.compile(rf"^{re.escape(title)}.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    text = _NOT_MEASURED.sub("", older.sub("", text)).rstrip("\n")
    replace_text(card, f"{text}\n\n{title}\n{_section(report)}")
    return card


def _section(report: BiasReport) -> str:
    lines = [
        "How often the sentence of the stereotype was the more probable one; 0.5 is no preference.",
        "",
        "| pairs | number | share | 95 % interval |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {share.num} | {share.value:.3f} | {share.low:.3f} to {share.high:.3f} |"
            for name, share in report.shares.items()
        ),
        "",
    ]
    if report.language_score is not None:
        lines += [
            f"Language model score {report.language_score:.3f}, ICAT {report.icat:.3f}.",
            "",
        ]
    return "\n".join([*lines, report.caveat, ""])

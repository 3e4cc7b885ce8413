"""An inspection as one HTML file: no network, no other files, a little JavaScript of its own."""

import base64
import html
import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from weldlm.atomic_file import replace_text
from weldlm.inspect.inspection import Inspection
from weldlm.inspect.record import as_record

__all__ = ["page_of", "write_page"]

_FOLDER = Path(__file__).parent / "page"
_SCRIPTS = ("elements.js", "maps.js", "tables.js", "page.js")
_FULL = 65_535  # what a probability of 1 becomes in the page


def write_page(seen: Inspection, path: Path) -> None:
    """Writes the page."""
    replace_text(path, page_of(seen))


def page_of(seen: Inspection) -> str:
    """Returns the page as text; whatever a model or a text holds is shown, never run."""
    frame = (_FOLDER / "page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(f"{seen.model_name}: {seen.text[:60]}"),
        "STYLE": (_FOLDER / "page.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        "DATA": _script_json(as_record(seen, _packed)),
    }
    # split first: what is put in is never looked at again
    pieces = frame.split("@@")
    return "".join(parts.get(piece, piece) for piece in pieces)


def _packed(maps: Tensor) -> dict[str, Any]:
    """Probabilities as 16-bit integers of little-endian bytes in base64."""
    values = np.rint(maps.float().clamp(0.0, 1.0).numpy() * _FULL).astype("<u2")
    data = base64.b64encode(values.tobytes()).decode("ascii")
    return {"shape": list(maps.shape), "data": data}


def _script_json(record: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(record)  # ASCII: no line separators of Unicode
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

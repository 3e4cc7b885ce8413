"""Which hidden state is a sentence's embedding, as the folders of sentence-transformers say."""

from pathlib import Path

from weldlm.config import Pooling
from weldlm.weights.model_json import read_json

__all__ = ["read_pooling"]

_FILE = Path("1_Pooling", "config.json")
_MODES: dict[str, Pooling] = {
    "pooling_mode_cls_token": "first",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}


def read_pooling(path: Path) -> Pooling:
    """Returns what the folder of a model says, the mean where it says nothing.

    Raises:
        ValueError: it says something else than these.
    """
    file = path / _FILE
    if not file.is_file():
        return "mean"
    fields = read_json(file)
    named = [str(name) for name, value in fields.items() if value is True and name in _MODES]
    others = [
        name
        for name, value in fields.items()
        if value is True and name.startswith("pooling_mode_") and name not in _MODES
    ]
    if len(named) != 1 or others:
        raise ValueError(
            f"{file} names the pooling {', '.join(named + others) or 'of nothing'}; expected one "
            f"of {', '.join(_MODES)}"
        )
    return _MODES[named[0]]

"""Which language a text is in, as py3langid tells it, offline."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from weldlm.data.cleaning.steps import TextStep
from weldlm.extra_packages import require_extra

__all__ = ["keep_languages"]

_CHARACTERS = 4_000  # of the start of a text, which tell enough


def keep_languages(languages: Sequence[str], confidence: float) -> TextStep:
    """Returns a step that keeps texts in these languages.

    Args:
        languages: codes such as en, de, zh.
        confidence: least probability of the language.

    Raises:
        ModuleNotFoundError: py3langid is not installed.
        ValueError: a code is unknown.
    """
    identifier = _load_identifier()
    unknown = set(languages).difference(identifier.labels)
    if unknown:
        known = ", ".join(sorted(identifier.labels))
        raise ValueError(f"languages holds {sorted(unknown)[0]!r}; expected any of {known}")

    def keep(text: str) -> str | None:
        language, probability = identifier.classify(text[:_CHARACTERS])
        return text if language in languages and probability >= confidence else None

    return keep


@lru_cache(maxsize=1)
def _load_identifier() -> Any:
    """Reads the model, which takes a second, once in a process."""
    library = require_extra("py3langid.langid", "data", "languages")
    return library.LanguageIdentifier.from_model_file(library.MODEL_FILE, norm_probs=True)

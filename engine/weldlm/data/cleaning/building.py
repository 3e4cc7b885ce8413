"""The steps that settings ask for, in the order in which a text meets them."""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Literal

from weldlm.data.cleaning.characters import normalize, remove_control_characters
from weldlm.data.cleaning.contamination import EvaluationTexts
from weldlm.data.cleaning.language import keep_languages
from weldlm.data.cleaning.redaction import REDACTIONS
from weldlm.data.cleaning.repair import repair_text
from weldlm.data.cleaning.rules import RULES, expand_rules
from weldlm.data.cleaning.settings import CleanSettings
from weldlm.data.cleaning.steps import Step, TextStep
from weldlm.data.cleaning.web_content import extract_content
from weldlm.data.sources import read_evaluation

__all__ = ["build_steps"]

_FORMS: dict[str, Literal["NFC", "NFKC"]] = {"nfc": "NFC", "nfkc": "NFKC"}


def build_steps(settings: CleanSettings) -> list[Step]:
    """Returns the steps.

    Raises:
        FileNotFoundError: an evaluation set does not exist.
        ModuleNotFoundError: a step needs a package that is not installed.
        ValueError: an evaluation set cannot be read, or a language is unknown.
    """
    return [*_characters(settings), *_content(settings)]


def _characters(settings: CleanSettings) -> Iterator[Step]:
    yield Step("web_page", _when_used(extract_content), is_for_web_pages=True)
    if settings.repair:
        yield Step("repair", repair_text())
    if not settings.keep_control_characters:
        yield Step("control_characters", remove_control_characters)
    if settings.normalization != "none":
        yield Step("normalization", partial(normalize, form=_FORMS[settings.normalization]))


def _content(settings: CleanSettings) -> Iterator[Step]:
    wanted = expand_rules(settings.rules).difference(settings.without)
    if settings.languages:
        keep = keep_languages(settings.languages, settings.language_confidence)
        yield Step("language", keep)
    for name, rule in RULES.items():
        if name in wanted:
            yield Step(name, rule.apply)
    if settings.evaluation:
        texts = (text for path in settings.evaluation for text in read_evaluation(path))
        known = EvaluationTexts(texts, settings.overlap)
        yield Step("contamination", known.refuse_known)
    for secret, redact in REDACTIONS.items():
        if secret in settings.redact:
            yield Step(f"redact_{secret}", redact, is_shown=False)


def _when_used(make: Callable[[], TextStep]) -> TextStep:
    """A step whose package is loaded with the first text that needs it."""
    made = lru_cache(maxsize=1)(make)
    return lambda text: made()(text)

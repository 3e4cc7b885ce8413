"""Rules about quality that are known by name, each a switch of its own.

Gopher's are those of Rae et al. 2021 (arXiv:2112.11446, A1.1), C4's those of Raffel et al. 2020
(arXiv:1910.10683, 2.2) but for its list of bad words and its spans of three sentences.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from weldlm.data.cleaning import line_rules, quality_rules, repetition_rules
from weldlm.data.cleaning.steps import TextStep

__all__ = ["RULES", "RULE_SETS", "Rule", "expand_rules"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a text must be, or what is taken out of it."""

    name: str
    about: str  # what goes
    apply: TextStep


_ALL = (
    Rule("c4_policies", "lines about cookies, privacy and terms of use", line_rules.drop_policies),
    Rule("c4_javascript", "lines with the word Javascript", line_rules.drop_javascript),
    Rule("c4_citations", "marks such as [1] and [citation needed]", line_rules.drop_citations),
    Rule("c4_punctuation", "lines that end in no . ! ? or quote", line_rules.drop_unpunctuated),
    Rule("c4_short_lines", "lines of fewer than 5 words", line_rules.drop_short_lines),
    Rule("c4_lorem_ipsum", "texts with lorem ipsum", quality_rules.refuse_lorem_ipsum),
    Rule("c4_braces", "texts with {, which are code", quality_rules.refuse_braces),
    Rule("c4_sentences", "texts of fewer than 3 sentences", quality_rules.require_sentences),
    Rule("gopher_words", "texts of fewer than 50 or more than 100,000 words",
         quality_rules.require_words),
    Rule("gopher_word_length", "texts whose words have fewer than 3 or more than 10 letters "
         "on average", quality_rules.require_word_length),
    Rule("gopher_symbols", "texts with a # or an ellipsis for 10 words",
         quality_rules.refuse_symbols),
    Rule("gopher_bullets", "texts whose lines begin with bullets, 9 of 10",
         quality_rules.refuse_bullets),
    Rule("gopher_ellipses", "texts whose lines end in an ellipsis, 3 of 10",
         quality_rules.refuse_ellipses),
    Rule("gopher_letters", "texts where a fifth of the words has no letter",
         quality_rules.require_letters),
    Rule("gopher_stop_words", "texts without two of the, be, to, of, and, that, have, with",
         quality_rules.require_stop_words),
    Rule("gopher_lines", "texts whose lines recur", repetition_rules.refuse_repeated_lines),
    Rule("gopher_paragraphs", "texts whose paragraphs recur",
         repetition_rules.refuse_repeated_paragraphs),
    Rule("gopher_top_ngrams", "texts full of one run of 2 to 4 words",
         repetition_rules.refuse_top_ngrams),
    Rule("gopher_ngrams", "texts full of runs of 5 to 10 words that recur",
         repetition_rules.refuse_repeated_ngrams),
)  # fmt: skip

RULES = {rule.name: rule for rule in _ALL}  # in the order in which a text meets them
RULE_SETS = {
    "c4": tuple(name for name in RULES if name.startswith("c4_")),
    "gopher": tuple(name for name in RULES if name.startswith("gopher_")),
    "boilerplate": ("c4_policies", "c4_javascript", "c4_citations"),
}


def expand_rules(names: Iterable[str]) -> set[str]:
    """Returns the names of rules that names of rules and of sets stand for.

    Raises:
        ValueError: a name is unknown.
    """
    found: set[str] = set()
    for name in names:
        if name not in RULES and name not in RULE_SETS:
            known = ", ".join([*RULE_SETS, *RULES])
            raise ValueError(f"rules is {name!r}; expected any of {known}")
        found.update(RULE_SETS.get(name, (name,)))
    return found

"""The regular expressions that the core has a scanner for."""

from weldlm.tokenizer.pattern_translation import Engine

__all__ = ["PATTERNS", "family_of"]

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _SPACES
_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+#"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*#"
)
_SIGNS = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*" + _SPACES

# by family; a file of the tokenizers library spells it so
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": _LLAMA3,
    # tiktoken's own spelling ends a text by $, which is the end of a line to oniguruma
    "cl100k": _LLAMA3.replace(_SPACES, r"|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"),
    "qwen2": _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),
    "qwen3_5": (
        _CONTRACTION
        + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
        + _SPACES
    ),
    "o200k": _WORDS.replace("#", _CONTRACTION + "?") + r"|\p{N}{1,3}" + _SIGNS,
    "tekken": _WORDS.replace("#", "") + r"|\p{N}" + _SIGNS,
    "digits": r"\p{N}+|\P{N}+",
    "single_digits": r"\p{N}|\P{N}+",
}

# other spellings; the second one of GPT-2 is that of tiktoken 0.14, which ends texts by $
_TIKTOKEN = {
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": "gpt2",
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s": "cl100k",
}
_FAMILIES = {pattern: family for family, pattern in PATTERNS.items() if "digits" not in family}


def family_of(pattern: str, engine: Engine) -> str | None:
    """The family whose scanner does exactly what the pattern says, None if there is none."""
    if engine == "tiktoken" and pattern in _TIKTOKEN:
        return _TIKTOKEN[pattern]
    return _FAMILIES.get(pattern)

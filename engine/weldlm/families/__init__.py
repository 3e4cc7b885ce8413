"""How each family is written in a Hugging Face folder: configuration fields and tensor names.

A family is data: a translation of `config.json` both ways, and rules that say which of their
tensors make up one of ours.
"""

from weldlm.config import FamilyName
from weldlm.families.bart import BART, MARIAN
from weldlm.families.bert import BERT, DISTILBERT, ROBERTA
from weldlm.families.family import Family, HeadFormat, Rule
from weldlm.families.gemma import GEMMA2, GEMMA3
from weldlm.families.gpt2 import GPT2
from weldlm.families.llama import LLAMA, MISTRAL, QWEN2, QWEN3
from weldlm.families.modernbert import MODERNBERT
from weldlm.families.t5 import T5
from weldlm.families.tensor_rules import split_sizes, tensor_rules

__all__ = ["FAMILIES", "Family", "HeadFormat", "Rule", "split_sizes", "tensor_rules"]

FAMILIES: dict[FamilyName, Family] = {
    "gpt2": GPT2,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
    "bert": BERT,
    "roberta": ROBERTA,
    "distilbert": DISTILBERT,
    "modernbert": MODERNBERT,
    "t5": T5,
    "bart": BART,
    "marian": MARIAN,
}

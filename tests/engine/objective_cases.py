"""A tiny model and data for every objective."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.engine.tiny_models import tiny_config
from tests.engine.tiny_runs import tiny_shards
from weldlm.data import TokenShards
from weldlm.heads import (
    CausalLM,
    MaskedLM,
    Model,
    QuestionAnswerer,
    Regressor,
    Seq2SeqLM,
    SequenceClassifier,
    TokenClassifier,
)
from weldlm.objectives import (
    AnswerSpans,
    EncodedTexts,
    ExampleSet,
    LabelledSequences,
    LabelledTokens,
    MaskedLMObjective,
    PromptAnswers,
    ScoredSequences,
    SourceTargets,
    SpanCorruptionObjective,
    TokenObjective,
)

__all__ = ["CASES", "ObjectiveCase", "tiny_examples"]

NUM_EXAMPLES = 13
_LABELS = ("no", "yes", "maybe")


@dataclass(frozen=True)
class ObjectiveCase:
    """What a run of an objective takes."""

    model: Callable[[], Model]
    data: Callable[[Path], TokenShards | ExampleSet]
    objective: TokenObjective | None = None


def tiny_texts(seed: int, *, fewest: int = 3) -> EncodedTexts:
    """Ragged sequences of ids from 10 to 96."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(fewest, 16, size=NUM_EXAMPLES)
    return EncodedTexts.of([generator.integers(10, 97, size=length) for length in lengths])


def tiny_examples(kind: str) -> ExampleSet:
    """Examples whose labels are drawn."""
    texts, generator = tiny_texts(1), np.random.default_rng(2)
    match kind:
        case "sequences":
            return LabelledSequences(texts, generator.integers(3, size=NUM_EXAMPLES))
        case "scores":
            return ScoredSequences(texts, generator.random((NUM_EXAMPLES, 3), np.float32))
        case "tokens":
            labels = generator.integers(3, size=len(texts.ids))
            return LabelledTokens(
                texts, np.where(generator.random(len(labels)) < 0.3, -100, labels)
            )
        case "spans":
            first = generator.integers(texts.lengths)
            last = generator.integers(first, texts.lengths)
            return AnswerSpans(texts, np.stack((first, last), axis=1))
        case "targets":
            return SourceTargets(texts, tiny_texts(3, fewest=1), start_id=0)
        case _:
            return PromptAnswers(texts, generator.random(len(texts.ids)) < 0.4)


def _model(head: type[Model], name: str) -> Callable[[], Model]:
    def build() -> Model:
        torch.manual_seed(1)
        changes: dict[str, object] = {"num_layers": 1, "labels": _LABELS}
        if name.startswith("t5"):
            changes |= {"num_encoder_layers": 1, "decoder_start_id": 0, "head_scale": 32**-0.5}
        return head(tiny_config(name, **changes))

    return build


def _shards(folder: Path) -> TokenShards:
    return tiny_shards(folder / "data")


def _examples(kind: str) -> Callable[[Path], ExampleSet]:
    return lambda _folder: tiny_examples(kind)


CASES = {
    "causal-lm": ObjectiveCase(_model(CausalLM, "gpt2-tiny"), _shards),
    "masked-lm": ObjectiveCase(
        _model(MaskedLM, "bert-base"),
        _shards,
        MaskedLMObjective(
            vocab_size=97, mask_id=4, special_ids=[0, 4], share=0.4, frame_ids=(2, 3)
        ),
    ),
    "span-corruption": ObjectiveCase(
        _model(Seq2SeqLM, "t5-small"),
        _shards,
        SpanCorruptionObjective(
            vocab_size=97, first_sentinel=96, num_sentinels=8, eos_id=1, start_id=0
        ),
    ),
    "seq2seq": ObjectiveCase(_model(Seq2SeqLM, "t5-small"), _examples("targets")),
    "sequence-labels": ObjectiveCase(
        _model(SequenceClassifier, "bert-base"), _examples("sequences")
    ),
    "token-labels": ObjectiveCase(_model(TokenClassifier, "bert-base"), _examples("tokens")),
    "regression": ObjectiveCase(_model(Regressor, "bert-base"), _examples("scores")),
    "answer-spans": ObjectiveCase(_model(QuestionAnswerer, "bert-base"), _examples("spans")),
    "prompt-answers": ObjectiveCase(_model(CausalLM, "llama-tiny"), _examples("answers")),
}

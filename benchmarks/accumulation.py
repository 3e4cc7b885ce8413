"""Does a gradient depend on how its step is cut into micro-batches? Ours, and theirs.

python -m benchmarks.accumulation    # writes benchmarks/results/accumulation.md

The same weights and the same eight ragged rows: one micro-batch of all against four of two, in fp32
and without dropout. A ratio of 1 is right.
"""

import datetime
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

import weldlm
from benchmarks.report import PACKAGES, installed
from weldlm.doctor.their_model import trainer_step
from weldlm.heads import Model
from weldlm.objectives import (
    AnswerSpans,
    EncodedTexts,
    ExampleSet,
    LabelledSequences,
    LabelledTokens,
    MicroBatch,
    PromptAnswers,
    ScoredSequences,
    SourceTargets,
)
from weldlm.token_loss import accumulate_gradients

RESULTS = Path(__file__).parent / "results" / "accumulation.md"
LENGTHS = (5, 31, 12, 23, 8, 17, 29, 4)
VOCAB_SIZE, PAD_ID, IGNORED = 97, 0, -100
MICRO_BATCHES = 4
_BERT: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": PAD_ID,
    "num_labels": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """An objective with a model of each side and the same rows."""

    name: str
    theirs: transformers.PreTrainedModel
    head: type[Model]
    examples: "Callable[[EncodedTexts], ExampleSet | HiddenTokens]"


@dataclass(frozen=True)
class HiddenTokens:
    """Texts with labels where a token was hidden."""

    texts: EncodedTexts
    labels: np.ndarray

    def select(self, indices: np.ndarray) -> MicroBatch:
        labels = torch.from_numpy(self.labels[self.texts.places(indices)])
        return MicroBatch.of_tokens(self.texts.select(indices), labels)


def texts() -> EncodedTexts:
    generator = np.random.default_rng(0)
    return EncodedTexts.of([generator.integers(5, VOCAB_SIZE, size=n) for n in LENGTHS])


def cases() -> list[Case]:
    generator = np.random.default_rng(1)
    bert = transformers.BertConfig(**_BERT)
    answers = transformers.BertConfig(**{**_BERT, "num_labels": 2})
    regression = transformers.BertConfig(**_BERT, problem_type="regression")
    gpt2 = transformers.GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0,
    )  # fmt: skip
    t5 = transformers.T5Config(
        vocab_size=VOCAB_SIZE, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        dropout_rate=0.0, decoder_start_token_id=PAD_ID,
    )  # fmt: skip

    def hidden(found: EncodedTexts) -> HiddenTokens:
        return HiddenTokens(
            found, np.where(generator.random(len(found.ids)) < 0.3, found.ids, -100)
        )

    def spans(found: EncodedTexts) -> AnswerSpans:
        first = generator.integers(found.lengths)
        return AnswerSpans(found, np.stack((first, found.lengths - 1), axis=1))

    return [
        Case("causal language modeling, GPT-2", transformers.GPT2LMHeadModel(gpt2),
             weldlm.CausalLM, lambda found: PromptAnswers(found, np.ones(len(found.ids), bool))),
        Case("masked language modeling, BERT", transformers.BertForMaskedLM(bert),
             weldlm.MaskedLM, hidden),
        Case("sequence to sequence, T5", transformers.T5ForConditionalGeneration(t5),
             weldlm.Seq2SeqLM, lambda found: SourceTargets(found, found, PAD_ID)),
        Case("token classification, BERT", transformers.BertForTokenClassification(bert),
             weldlm.TokenClassifier,
             lambda found: LabelledTokens(found, generator.integers(3, size=len(found.ids)))),
        Case("sequence classification, BERT", transformers.BertForSequenceClassification(bert),
             weldlm.SequenceClassifier,
             lambda found: LabelledSequences(found, generator.integers(3, size=len(found)))),
        Case("regression, BERT", transformers.BertForSequenceClassification(regression),
             weldlm.Regressor,
             lambda found: ScoredSequences(
                 found, generator.random((len(found), 3)).astype(np.float32))),
        Case("question answering, BERT", transformers.BertForQuestionAnswering(answers),
             weldlm.QuestionAnswerer, spans),
    ]  # fmt: skip


def their_rows(examples: Any) -> Rows:
    """The examples as transformers' data sets hold them."""
    found = examples.sources if isinstance(examples, SourceTargets) else examples.texts
    rows: Rows = []
    for index in range(len(found)):
        begin, end = found.offsets[index : index + 2]
        row: dict[str, Any] = {"input_ids": found.ids[begin:end].tolist()}
        match examples:
            case AnswerSpans():
                row["start_positions"], row["end_positions"] = examples.spans[index].tolist()
            case LabelledTokens() | HiddenTokens():
                row["labels"] = examples.labels[begin:end].tolist()
            case LabelledSequences():
                row["labels"] = int(examples.labels[index])
            case ScoredSequences():
                row["scores"] = examples.scores[index].tolist()
            case _:
                row["labels"] = row["input_ids"]
        rows.append(row)
    return rows


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Pads to the longest row, as transformers' collators do."""
    longest = max(len(row["input_ids"]) for row in rows)

    def column(name: str, filler: int) -> Tensor:
        values = [row[name] for row in rows]
        if isinstance(values[0], int):
            return torch.tensor(values)
        return torch.tensor([value + [filler] * (longest - len(value)) for value in values])

    batch = {"input_ids": column("input_ids", PAD_ID)}
    batch["attention_mask"] = torch.tensor(
        [[place < len(row["input_ids"]) for place in range(longest)] for row in rows]
    ).long()
    for name in ("labels", "start_positions", "end_positions"):
        if name in rows[0]:
            batch[name] = column(name, IGNORED)
    if "scores" in rows[0]:
        batch["labels"] = torch.tensor([row["scores"] for row in rows])
    return batch


def our_step(model: Model, examples: Any, micro_batches: int) -> tuple[float, float]:
    """Loss and gradient norm of a step."""
    model.zero_grad()
    groups = np.array_split(np.arange(len(LENGTHS)), micro_batches)
    loss = accumulate_gradients(
        model, [examples.select(group) for group in groups], dtype="float32"
    )
    norms = [weight.grad.norm() for weight in model.parameters() if weight.grad is not None]
    return float(loss), float(torch.stack(norms).norm())


def ratios(case: Case) -> list[float]:
    """Loss and gradient norm of four micro-batches to those of one: ours, then theirs."""
    examples = case.examples(texts())
    with tempfile.TemporaryDirectory() as folder:
        case.theirs.save_pretrained(folder)
        ours = weldlm.load_pretrained(folder, case.head)
    whole, split = (our_step(ours, examples, count) for count in (1, MICRO_BATCHES))
    rows = their_rows(examples)
    their_whole, their_split = (
        trainer_step(case.theirs, rows, collate, accumulation=count) for count in (1, MICRO_BATCHES)
    )
    return [split[0] / whole[0], split[1] / whole[1],
            their_split[0] / their_whole[0], their_split[1] / their_whole[1]]  # fmt: skip


def main() -> None:
    torch.manual_seed(0)
    lines = [
        "# A step in four micro-batches against one",
        "",
        f"{', '.join(f'{name} {installed(name)}' for name in PACKAGES[:2])}; "
        f"{datetime.date.today()}, `python -m benchmarks.accumulation`. The same weights and eight "
        "ragged rows, fp32, no dropout. What a step in four micro-batches gives, over what one "
        "gives: 1 is right. Theirs is transformers' Trainer with gradient_accumulation_steps=4.",
        "",
        "| objective | our loss | our gradient norm | their loss | their gradient norm |",
        "|---|---|---|---|---|",
    ]
    for case in cases():
        lines.append(f"| {case.name} | " + " | ".join(f"{r:.4f}" for r in ratios(case)) + " |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The same claims about a model of transformers, trained by transformers' own Trainer.

Nothing of weldlm runs here: the checks show what a user has without it.
"""

import copy
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from weldlm.doctor.check import NUM_SEQUENCES, Check, cut_texts, padding_share

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["examine_theirs", "trainer_step"]

Row = dict[str, Any]  # of a data set
Collate = Callable[[Sequence[Row]], dict[str, Tensor]]

_MOST_TOKENS = 64
_IGNORED = -100
_MOST_CHANGE = 1e-3  # of loss and gradient, where micro-batches change only rounding


def examine_theirs(
    model: "PreTrainedModel",
    encode: Callable[[str], list[int]],
    texts: Iterable[str],
    *,
    pad_id: int = 0,
    report: Callable[[str], None] = lambda _name: None,
) -> list[Check]:
    """Measures what packing and accumulation do to a language model of transformers.

    Args:
        model: for causal, masked or sequence-to-sequence language modeling; it is copied.
        encode: text to ids without special tokens.
        texts: a few are enough.
        pad_id: fills padded batches.
        report: called with the name of each check before it runs.

    Raises:
        ValueError: there is too little text.
    """
    sequences = cut_texts([encode(text) for text in texts], _MOST_TOKENS)
    checks: dict[str, Callable[[str], Check]] = {
        "documents packed by position_ids do not see each other": lambda name: _leak(
            name, model, sequences
        ),
        "accumulation does not change loss and gradient": lambda name: _accumulation(
            name, model, sequences, pad_id
        ),
        "nothing is padded": lambda name: _padding(name, sequences),
    }
    found = []
    for name, check in checks.items():
        report(name)
        found.append(check(name))
    return found


def _leak(name: str, model: "PreTrainedModel", sequences: Sequence[Sequence[int]]) -> Check:
    """Packs two documents with restarting position_ids and changes a token of the first."""
    if model.config.is_encoder_decoder:
        return Check(name, True, "packing is not offered for encoder-decoders", "")
    first, second = sequences[0], sequences[1]
    positions = torch.tensor([[*range(len(first)), *range(len(second))]])
    changed = [(first[0] + 1) % model.config.vocab_size, *first[1:]]
    before, after = (
        _logits(model, torch.tensor([[*start, *second]]), positions) for start in (first, changed)
    )
    is_other = (before != after).any(dim=-1)[0, len(first) :]
    figure = f"{int(is_other.sum())} of {len(second)} places of the second document changed"
    advice = "pack with weldlm.patch(model), or pass use_cache=False and no attention mask"
    return Check(name, not bool(is_other.any()), figure, advice)


@torch.no_grad()
def _logits(model: "PreTrainedModel", ids: Tensor, positions: Tensor) -> Tensor:
    was_training = model.training
    model.train(False)
    logits: Tensor = model(input_ids=ids, position_ids=positions).logits
    model.train(was_training)
    return logits


def _accumulation(
    name: str, model: "PreTrainedModel", sequences: Sequence[Sequence[int]], pad_id: int
) -> Check:
    """One step of Trainer on all rows at once, and on two rows at a time."""
    rows = [_row(model, ids) for ids in sequences]
    rows = (rows * NUM_SEQUENCES)[:NUM_SEQUENCES]
    collate = partial(_padded, pad_id=pad_id)
    whole = trainer_step(model, rows, collate, accumulation=1)
    split = trainer_step(model, rows, collate, accumulation=4)
    loss, gradient = split[0] / whole[0], split[1] / whole[1]
    passed = abs(loss - 1) < _MOST_CHANGE and abs(gradient - 1) < _MOST_CHANGE
    figure = f"with 4 micro-batches: loss x {loss:.3f}, gradient norm x {gradient:.3f}"
    advice = "do not accumulate with this Trainer, or train with weldlm.Trainer"
    return Check(name, passed, figure, advice)


def _row(model: "PreTrainedModel", ids: Sequence[int]) -> dict[str, list[int]]:
    """A causal model is asked for all tokens, a masked one for every third, others to copy."""
    if model.config.is_encoder_decoder or "Masked" not in type(model).__name__:
        return {"input_ids": list(ids), "labels": list(ids)}
    labels = [token if place % 3 == 0 else _IGNORED for place, token in enumerate(ids)]
    return {"input_ids": list(ids), "labels": labels}


def trainer_step(
    model: "PreTrainedModel", rows: Sequence[Row], collate: Collate, *, accumulation: int
) -> tuple[float, float]:
    """Returns the loss and gradient norm that transformers' Trainer logs for one step.

    Args:
        model: copied, and without dropout.
        rows: all of the step.
        collate: rows to a batch.
        accumulation: micro-batches of the step.
    """
    from transformers import Trainer, TrainingArguments

    with tempfile.TemporaryDirectory(prefix="weldlm-doctor-") as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=len(rows) // accumulation,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            logging_steps=1,
            learning_rate=1e-6,
            max_grad_norm=1e9,  # the norm is logged where it is clipped
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=next(model.parameters()).device.type == "cpu",
            remove_unused_columns=False,
        )
        copied = copy.deepcopy(model)
        for module in copied.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = Trainer(
            model=copied,
            args=arguments,
            train_dataset=rows,
            data_collator=collate,
        )
        trainer.remove_callback(_printer())
        trainer.train()
        log = next(entry for entry in trainer.state.log_history if "grad_norm" in entry)
    return float(log["loss"]), float(log["grad_norm"])


def _printer() -> Any:
    from transformers import PrinterCallback

    return PrinterCallback


def _padded(batch: Sequence[Row], pad_id: int) -> dict[str, Tensor]:
    longest = max(len(row["input_ids"]) for row in batch)

    def fill(values: list[int], filler: int) -> list[int]:
        return [*values, *[filler] * (longest - len(values))]

    return {
        "input_ids": torch.tensor([fill(row["input_ids"], pad_id) for row in batch]),
        "attention_mask": torch.tensor([fill([1] * len(row["input_ids"]), 0) for row in batch]),
        "labels": torch.tensor([fill(row["labels"], _IGNORED) for row in batch]),
    }


def _padding(name: str, sequences: Sequence[Sequence[int]]) -> Check:
    share = padding_share([len(ids) for ids in sequences])
    figure = f"{share:.0%} of a padded batch of these rows is padding"
    return Check(
        name, share == 0.0, figure, "pack with weldlm.PackedCollator or weldlm.patch(model)"
    )

"""The checks of a model of weldlm, with the objective that its kind is trained by."""

import copy
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from weldlm.callbacks import Callback
from weldlm.data import TokenShards, write_shards
from weldlm.doctor.check import Check, cut_texts, padding_share
from weldlm.heads import CausalLM, MaskedLM, Model, Seq2SeqLM
from weldlm.objectives import IGNORED, MicroBatch, TokenObjective
from weldlm.packing import PackedBatch
from weldlm.pretraining import PretrainSettings, build_objective
from weldlm.token_loss import accumulate_gradients
from weldlm.tokenizer import Tokenizer
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm_kernels import use_backend

__all__ = ["examine"]

_MOST_TOKENS = 64  # of a sequence
_ROW_TOKENS = 16  # of the runs that are stopped and resumed
_MOST_LOSS_CHANGE, _MOST_GRADIENT_CHANGE = 1e-5, 1e-3  # fp32, summed in another order
_TWICE = 2.0  # the tolerance rule of the kernels
_ROUNDINGS = 64.0  # of fp32, granted beyond it


def examine(
    model: Model,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    report: Callable[[str], None] = lambda _name: None,
) -> list[Check]:
    """Measures what training promises on a model and texts.

    Args:
        model: CausalLM, MaskedLM or Seq2SeqLM with fp32 weights; they are as they were when this
            returns.
        tokenizer: the model's.
        texts: a few are enough.
        report: called with the name of each check before it runs.

    Raises:
        ValueError: there is too little text, or the tokenizer or head is of no language model.
    """
    if not isinstance(model, CausalLM | MaskedLM | Seq2SeqLM):
        raise ValueError(
            f"the model's head is of the kind {model.kind}; expected a language model: load it as "
            "CausalLM, MaskedLM or Seq2SeqLM"
        )
    objective = build_objective(model.config, tokenizer, PretrainSettings(), seed=0)
    most = min(_MOST_TOKENS, model.config.context_length - objective.num_added)
    encoded = [tokenizer.encode_ordinary(text) for text in texts]
    sequences = cut_texts(encoded, most)
    examination = _Examination(model, objective, sequences)
    checks = []
    for name, check in examination.checks.items():
        report(name)
        checks.append(check(name))
    return checks


class _Examination:
    def __init__(
        self, model: Model, objective: TokenObjective, sequences: Sequence[Sequence[int]]
    ) -> None:
        self.model = model
        self.objective = objective
        self.sequences = sequences
        self.checks = {
            "documents do not see each other": self.leak,
            "labels stand where they belong": self.label_shift,
            "micro-batches do not change the gradient": self.accumulation,
            "kernels agree with the reference": self.kernels,
            "a resumed run equals an uninterrupted one": self.resume,
            "nothing is padded": self.padding,
        }

    def leak(self, name: str) -> Check:
        """A changed token of one document must change nothing in another."""
        first, *rest = self.sequences
        changed = [(first[0] + 1) % self.model.config.vocab_size, *first[1:]]
        before, after = self._logits([first, *rest]), self._logits([changed, *rest])
        own = len(first)
        is_other = (before != after).any(dim=1)
        num_leaks, num_own = int(is_other[own:].sum()), int(is_other[:own].sum())
        figure = f"{num_leaks} of {len(before) - own} places of other documents changed"
        advice = "a layer mixes packed sequences: report this model"
        if num_own == 0:
            figure, advice = "the change did not show anywhere", "the weights may all be zero"
        return Check(name, num_leaks == 0 < num_own, figure, advice)

    def label_shift(self, name: str) -> Check:
        """The loss is the cross-entropy of the right token, computed here in fp64."""
        arguments = self._arguments(range(len(self.sequences)))
        *inputs, labels = arguments
        assert isinstance(labels, Tensor)
        with torch.no_grad():
            logits: Tensor = self.model.logits(*inputs)  # type: ignore[operator]
            loss_sum, count = self.model(*arguments)
            expected = functional.cross_entropy(
                logits.double(), labels, ignore_index=IGNORED, reduction="sum"
            )
        difference = abs(float(loss_sum) / float(expected) - 1.0)
        is_right = self._labels_are_right(inputs, labels) and int(count) > 0
        figure = f"{int(count)} labels; loss differs by {difference:.1e} from fp64"
        return Check(name, is_right and difference < 1e-4, figure, "labels are shifted or lost")

    def _labels_are_right(self, inputs: Sequence[object], labels: Tensor) -> bool:
        batch = inputs[-1]
        assert isinstance(batch, PackedBatch)
        if isinstance(self.model, MaskedLM):
            original = torch.cat([torch.tensor(ids) for ids in self._framed()])
            return bool((labels == original)[labels != IGNORED].all())
        # what a decoder reads at a place is the label of the place before
        starts = batch.offsets[:-1].long()
        is_start = torch.zeros(len(labels), dtype=torch.bool)
        is_start[starts[batch.offsets.diff() > 0]] = True
        before, here = labels[:-1], batch.ids[1:]
        return bool((before == here)[~is_start[1:]].all())

    def _framed(self) -> list[list[int]]:
        frame = getattr(self.objective, "frame_ids", None)
        if frame is None:
            return [list(ids) for ids in self.sequences]
        return [[frame[0], *ids, frame[1]] for ids in self.sequences]

    def accumulation(self, name: str) -> Check:
        """One micro-batch of all sequences against one of each."""
        whole = self._gradient([range(len(self.sequences))])
        split = self._gradient([[index] for index in range(len(self.sequences))])
        loss = float(split[0] / whole[0])
        gradient = _distance(split[1], whole[1]) / _norm(whole[1])
        passed = abs(loss - 1.0) < _MOST_LOSS_CHANGE and gradient < _MOST_GRADIENT_CHANGE
        figure = f"loss x {loss:.6f}, gradient differs by {gradient:.1e}"
        return Check(name, passed, figure, "report this model: sums over labels are not exact")

    def kernels(self, name: str) -> Check:
        """Each gradient may be twice as far from fp64 as that of the reference."""
        everything = [range(len(self.sequences))]
        ours = self._gradient(everything)[1]
        with use_backend("reference"):
            reference = self._gradient(everything)[1]
            exact = self._gradient(everything, copy.deepcopy(self.model).double())[1]
        largest = _norm(exact)
        worst, where = 0.0, ""
        for weight, grad in exact.items():
            error = float((ours[weight].double() - grad).norm())
            theirs = float((reference[weight].double() - grad).norm())
            floor = _ROUNDINGS * torch.finfo(torch.float32).eps * largest
            ratio = error / (_TWICE * theirs + floor)
            if ratio > worst:
                worst, where = ratio, weight
        figure = f"{worst:.2f} of what the rule allows ({where or 'no gradient'})"
        advice = "take another backend: weldlm_kernels.use_backend('reference')"
        return Check(name, worst <= 1.0, figure, advice)

    def resume(self, name: str) -> Check:
        """Four steps at once against two, a checkpoint, and two more."""
        with tempfile.TemporaryDirectory(prefix="weldlm-doctor-") as folder:
            whole, cut = Path(folder, "whole"), Path(folder, "cut")
            expected = self._train(whole)
            self._train(cut, stops_after=2)
            resumed = self._train(cut, is_resumed=True)
        differing = [n for n, weight in expected.items() if not torch.equal(weight, resumed[n])]
        figure = f"{len(differing)} of {len(expected)} weights differ after 4 steps"
        advice = "set torch.set_num_threads to one number; look for draws of your own"
        return Check(name, not differing, figure, advice)

    def padding(self, name: str) -> Check:
        """Tokens that pass the model against tokens of the data."""
        arguments = self._arguments(range(len(self.sequences)))
        batch = arguments[0]
        assert isinstance(batch, PackedBatch)
        used = int(batch.offsets[-1])
        share = 1.0 - used / batch.num_tokens
        padded = padding_share([len(ids) for ids in self._framed()])
        figure = f"{share:.0%} padding; a padded batch of these would have {padded:.0%}"
        return Check(name, share == 0.0, figure, "report this")

    def _train(
        self, out: Path, *, stops_after: int | None = None, is_resumed: bool = False
    ) -> dict[str, Tensor]:
        model = copy.deepcopy(self.model)
        folder, documents = out.parent / "tokens", [np.array(ids) for ids in self.sequences]
        shards = (
            TokenShards.open(folder)
            if folder.exists()
            else write_shards(folder, documents, vocab_size=model.config.vocab_size)
        )
        settings = TrainSettings(
            steps=4,
            rows_per_step=2,
            row_length=max(2, min(_ROW_TOKENS, model.config.context_length // 2)),
            lr=1e-3,
            warmup_steps=0,
            dtype="float32",
            save_every=2,
            keep_checkpoints=1,
        )
        stop = [] if stops_after is None else [_DieAfter(stops_after)]
        trainer = Trainer(model, shards, settings, out, objective=self.objective, callbacks=stop)
        with suppress(_KilledError):
            trainer.fit(resume=is_resumed)
        return {name: weight.detach() for name, weight in trainer.model.named_parameters()}

    def _arguments(self, indices: Iterable[int]) -> tuple[PackedBatch | Tensor, ...]:
        chosen = list(indices)
        batch = PackedBatch.from_sequences([self.sequences[index] for index in chosen])
        return self.objective(batch, np.array(chosen))

    def _logits(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        """Scores for packed sequences; an encoder-decoder reads and writes the same."""
        batch = PackedBatch.from_sequences(sequences)
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad():
            if isinstance(self.model, Seq2SeqLM):
                target = PackedBatch.from_sequences(self.sequences)
                logits = self.model.logits(batch, target)
            else:
                logits = self.model.logits(batch)  # type: ignore[operator]
        self.model.train(was_training)
        return logits

    def _gradient(
        self, groups: Iterable[Iterable[int]], model: Model | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss and gradients without dropout; groups are micro-batches."""
        model = self.model if model is None else model
        was_training = model.training
        model.eval()
        model.zero_grad(set_to_none=True)
        batches = [MicroBatch.of_tokens(*self._arguments(group)) for group in groups]
        loss = accumulate_gradients(model, batches, dtype="float32")
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        model.train(was_training)
        return loss, grads


class _KilledError(Exception):
    """Ends a run as a kill does: what counts is what is on the disk."""


class _DieAfter(Callback):
    def __init__(self, step: int) -> None:
        self.name = f"checkpoint-{step}"

    def on_save(self, checkpoint: Path) -> None:
        if checkpoint.name == self.name:
            raise _KilledError


def _norm(grads: dict[str, Tensor]) -> float:
    return float(torch.stack([grad.double().norm() for grad in grads.values()]).norm())


def _distance(grads: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    parts = [(grad.double() - others[name].double()).norm() for name, grad in grads.items()]
    return float(torch.stack(parts).norm())

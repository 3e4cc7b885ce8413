"""A distilled student's loss is Hinton's, and it trains and saves as the student does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.engine.objective_cases import CASES
from tests.engine.tiny_models import tiny_model
from tests.engine.tiny_runs import RUN, tiny_shards
from weldlm.data import TokenShards
from weldlm.distill import DistillSettings, distilled
from weldlm.heads import CausalLM, Model
from weldlm.objectives import CausalLMObjective, MicroBatch
from weldlm.train_settings import TrainSettings
from weldlm.trainer import Trainer
from weldlm.training_data import TokenRows
from weldlm.weights import load_pretrained

NAMES = ["causal-lm", "masked-lm", "span-corruption", "sequence-labels", "token-labels"]


def build(name: str, seed: int) -> Model:
    model = CASES[name].model()
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def first_batch(name: str, folder: Path) -> MicroBatch:
    data = CASES[name].data(folder)
    if not isinstance(data, TokenShards):
        return data.select(np.arange(5))
    settings = TrainSettings(steps=1, rows_per_step=3, row_length=14)
    objective = CASES[name].objective or CausalLMObjective()
    return TokenRows(data, objective, settings, 0).micro_batches(0)[0]


@pytest.mark.parametrize("name", NAMES)
def test_loss_is_that_of_whole_logits(name: str, tmp_path: Path) -> None:
    student, teacher = build(name, 1).double(), build(name, 2).double()
    batch = first_batch(name, tmp_path)
    *inputs, labels = batch.arguments
    is_labelled = labels != -100
    ours, theirs = (model.logits(*inputs)[is_labelled] for model in (student, teacher))  # type: ignore[operator,index]
    hard = functional.cross_entropy(ours, labels[is_labelled], reduction="sum")  # type: ignore[index]
    soft = functional.kl_div(
        (ours / 3).log_softmax(1), (theirs / 3).log_softmax(1), reduction="sum", log_target=True
    )
    expected = torch.autograd.grad(
        0.3 * hard + 0.7 * 9 * soft, student.parameters(), allow_unused=True
    )

    model = distilled(student, teacher, DistillSettings(temperature=3.0, hard_share=0.3))  # type: ignore[type-var]
    loss_sum, count = model(*batch.arguments)
    gradients = torch.autograd.grad(loss_sum, student.parameters(), allow_unused=True)

    assert int(count) == batch.num_labels
    torch.testing.assert_close(loss_sum.double(), 0.3 * hard + 0.7 * 9 * soft, rtol=1e-5, atol=1e-6)
    for gradient, reference in zip(gradients, expected, strict=True):
        assert (gradient is None) == (reference is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-6)


def test_student_of_itself_has_half_the_loss_of_labels(tmp_path: Path) -> None:
    student = build("causal-lm", 1)
    batch = first_batch("causal-lm", tmp_path)
    alone = student(*batch.arguments)[0]

    taught = distilled(student, build("causal-lm", 1))(*batch.arguments)[0]  # type: ignore[type-var]

    torch.testing.assert_close(taught, alone / 2, rtol=1e-5, atol=1e-5)


def test_run_trains_the_student_alone_and_resumes(tmp_path: Path) -> None:
    settings = RUN.changed(steps=4, eval_every=None, save_every=2)
    teacher = tiny_model(context_length=16)
    before = [weight.clone() for weight in teacher.parameters()]

    def run(folder: str, steps_kept: int | None = None) -> dict[str, torch.Tensor]:
        student = tiny_model(context_length=16, num_layers=1)
        model = distilled(student, teacher)
        shards = tiny_shards(tmp_path / "data")
        trainer = Trainer(model, shards, settings, tmp_path / folder)
        trainer.fit(resume="auto")
        if steps_kept is not None:
            for path in (tmp_path / folder).glob("checkpoint-*"):
                if path.name != f"checkpoint-{steps_kept}":
                    path.rename(tmp_path / f"gone-{path.name}")
        return {name: weight.detach().clone() for name, weight in student.named_parameters()}

    whole = run("a")
    run("b", steps_kept=2)
    resumed = run("b")

    loaded = load_pretrained(tmp_path / "b" / "checkpoint-4", CausalLM)
    for name, weight in loaded.named_parameters():
        assert torch.equal(weight, whole[name])
        assert torch.equal(resumed[name], whole[name])
    for weight, old in zip(teacher.parameters(), before, strict=True):
        assert torch.equal(weight, old)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ("causal-lm", "masked-lm", "teacher's head is of the kind masked_lm, the student's causal"),
        ("regression", "regression", "a head of the kind regression predicts no distribution"),
    ],
)
def test_models_that_do_not_fit_are_refused(student: str, teacher: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distilled(build(student, 1), build(teacher, 2))  # type: ignore[type-var]


def test_other_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="the teacher has vocab_size 97, the student 96; expected"):
        distilled(tiny_model(vocab_size=96), tiny_model())

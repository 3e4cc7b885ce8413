"""Students: layers of the teacher, matched states and attention, runs on text and on rows."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.engine.test_distill import build, first_batch
from tests.engine.tiny_models import tiny_config, tiny_model
from tests.engine.tiny_tasks import tiny_folder, tiny_rows
from weldlm.cli import main
from weldlm.config import ModelConfig
from weldlm.distill import DistillSettings, choose_layers, distilled, shrink
from weldlm.heads import MaskedLM, Model, Seq2SeqLM
from weldlm.weights import load_config, load_pretrained


@pytest.mark.parametrize(
    ("num_layers", "num_kept", "expected"),
    [(12, 6, [0, 2, 4, 7, 9, 11]), (6, 3, [0, 2, 5]), (4, 4, [0, 1, 2, 3]), (5, 1, [0])],
)
def test_layers_are_spread_evenly(num_layers: int, num_kept: int, expected: list[int]) -> None:
    assert choose_layers(num_layers, num_kept) == expected


@pytest.mark.parametrize("num_kept", [0, 5])
def test_more_layers_than_there_are_are_refused(num_kept: int) -> None:
    with pytest.raises(ValueError, match="expected 1 to the teacher's 4"):
        choose_layers(4, num_kept)


def deep(name: str, head: Any) -> Model:
    torch.manual_seed(3)
    changes: dict[str, Any] = {"num_layers": 4}
    if head is Seq2SeqLM:
        changes |= {"num_encoder_layers": 4, "decoder_start_id": 0}
    model: Model = head(tiny_config(name, **changes)).eval()
    return model


@pytest.mark.parametrize(("name", "head"), [("bert-base", MaskedLM), ("t5-small", Seq2SeqLM)])
def test_student_has_the_weights_of_chosen_layers(name: str, head: Any) -> None:
    teacher = deep(name, head)

    student = shrink(teacher, 2)

    weights = teacher.state_dict()
    for key, value in student.state_dict().items():
        source = key.replace("blocks.1.", "blocks.3.")
        assert torch.equal(value, weights[source]), key
        assert value.data_ptr() != weights[source].data_ptr()
    assert isinstance(student.config, ModelConfig)
    assert (student.config.num_layers, teacher.config.num_layers) == (2, 4)


def test_student_with_all_layers_is_the_teacher() -> None:
    teacher = tiny_model(num_layers=3)

    student = shrink(teacher, 3)

    for name, value in student.state_dict().items():
        assert torch.equal(value, teacher.state_dict()[name])


def test_encoder_layers_of_a_decoder_are_refused() -> None:
    with pytest.raises(ValueError, match="num_encoder_layers is of encoder-decoders"):
        shrink(tiny_model(), 1, 1)


def states_of(model: Any, batch: Any) -> list[torch.Tensor]:
    """Behind each block, without the fused addition of the next norm."""
    found = []
    for block in model.transformer.blocks:
        block.register_forward_hook(
            lambda _block, _inputs, output: found.append(
                output[0] if output[1] is None else output[0] + output[1]
            )
        )
    model.transformer(batch)
    return found


def test_states_add_one_minus_their_cosine(tmp_path: Path) -> None:
    student, teacher = build("masked-lm", 1), build("masked-lm", 2)
    arguments = first_batch("masked-lm", tmp_path).arguments
    alone, count = student(*arguments)

    settings = DistillSettings(hard_share=1.0, hidden_weight=0.5)
    total, _ = distilled(student, teacher, settings)(*arguments)  # type: ignore[type-var]

    pairs = zip(*(states_of(model, arguments[0]) for model in (student, teacher)), strict=True)
    distances = [(1 - functional.cosine_similarity(a, b, dim=-1)).mean() for a, b in pairs]
    expected = alone + count * 0.5 * torch.stack(distances).mean()
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ["masked-lm", "causal-lm", "span-corruption"])
def test_student_that_is_its_teacher_has_nothing_to_match(name: str, tmp_path: Path) -> None:
    student, teacher = build(name, 1), build(name, 1)
    arguments = first_batch(name, tmp_path).arguments
    settings = DistillSettings(hard_share=1.0, hidden_weight=3.0, attention_weight=3.0)

    total, _ = distilled(student, teacher, settings)(*arguments)  # type: ignore[type-var]

    torch.testing.assert_close(total, student(*arguments)[0], rtol=1e-4, atol=1e-3)


def test_attention_adds_the_divergence_of_the_last_layer(tmp_path: Path) -> None:
    student, teacher = build("masked-lm", 1), build("masked-lm", 2)
    batch, labels = first_batch("masked-lm", tmp_path).arguments
    alone, count = student(batch, labels)

    def last_attention(model: Any) -> list[torch.Tensor]:
        """Softmax of the scaled products, sequence by sequence, from the layer's own input."""
        layer, found = model.transformer.blocks[-1].attention, []
        layer.register_forward_pre_hook(lambda _layer, inputs: found.append(inputs[0]))
        model.transformer(batch)
        heads, size = layer.num_heads, layer.head_dim
        q, k, _ = layer.qkv(found[0]).unflatten(-1, (3, heads, size)).unbind(1)
        offsets = batch.offsets.tolist()
        return [
            torch.einsum("qhd,khd->hqk", q[a:b], k[a:b]).div(size**0.5).softmax(dim=-1)
            for a, b in itertools.pairwise(offsets)
        ]

    settings = DistillSettings(hard_share=1.0, attention_weight=2.0)
    total, _ = distilled(student, teacher, settings)(batch, labels)  # type: ignore[type-var]

    pairs = list(zip(last_attention(student), last_attention(teacher), strict=True))
    sums = [(theirs * (theirs.log() - ours.log())).sum() for ours, theirs in pairs]
    num_rows = sum(ours.shape[0] * ours.shape[1] for ours, _ in pairs)
    expected = alone + count * 2.0 * torch.stack(sums).sum() / num_rows
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-3)
    (gradient,) = torch.autograd.grad(
        total,
        student.transformer.blocks[-1].attention.qkv.weight,  # type: ignore[union-attr]
    )
    assert bool(gradient.abs().sum() > 0)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"hidden_size": 16}, {"hidden_weight": 1.0}, "teacher has hidden_size 32, the student 16"),
        (
            {"num_heads": 2, "num_kv_heads": 2},
            {"attention_weight": 1.0},
            "teacher has num_heads 4, the student 2",
        ),
        ({"num_layers": 3}, {"hidden_weight": 1.0}, "the student has 3 layers, the teacher 2"),
    ],
)
def test_students_that_cannot_be_matched_are_refused(
    changes: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        distilled(tiny_model(**changes), tiny_model(), DistillSettings(**settings))


@pytest.mark.parametrize("name", ["hidden_weight", "attention_weight"])
def test_weights_below_zero_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1.0; expected 0 or more"):
        DistillSettings(**{name: -1.0})


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


def test_classifier_teaches_on_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_folder(tmp_path / "base", "classify")
    rows = tiny_rows(tmp_path / "rows", "classify")
    length = ("--epochs", 3, "--rows-per-step", 8, "--lr", 1e-2, "--dtype", "float32")
    files = ("--data", rows, "--out", tmp_path / "teacher")
    assert run("finetune", "--task", "classify", "--model", tmp_path / "base", *files, *length) == 0

    files = ("--teacher", tmp_path / "teacher", "--data", rows, "--out", tmp_path / "small")
    code = run("distill", *files, *length, "--num-layers", 1, "--hidden-weight", 0.5)

    metrics = json.loads((tmp_path / "small" / "metrics.json").read_text())["distillation"]
    teacher, student = metrics["teacher_figures"], metrics["student_figures"]
    assert code == 0
    assert student["num_parameters"] < teacher["num_parameters"]
    assert student["accuracy"] >= 0.9 * teacher["accuracy"] > 0.8
    assert load_config(tmp_path / "small" / "model").num_layers == 1
    assert "## Distilled from" in (tmp_path / "small" / "model" / "README.md").read_text()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["student"] == student


def test_encoder_decoder_learns_what_its_teacher_writes(tmp_path: Path) -> None:
    teacher = tiny_folder(tmp_path / "base", "seq2seq")
    rows = tiny_rows(tmp_path / "rows", "seq2seq")
    files = ("--teacher", teacher, "--data", rows, "--out", tmp_path / "small")

    code = run("distill", *files, "--task", "seq2seq", "--sequence-level", "--steps", 2,
               "--num-layers", 1, "--dtype", "float32")  # fmt: skip

    assert code == 0
    loaded = load_pretrained(tmp_path / "small" / "model", Seq2SeqLM)
    assert (loaded.config.num_layers, loaded.config.num_encoder_layers) == (1, 1)


def test_language_model_teaches_on_text(tmp_path: Path) -> None:
    text = tmp_path / "corpus.txt"
    text.write_text("\n".join(f"the film number {i} is fine" for i in range(300)))
    run("train", "--data", text, "--out", tmp_path / "teacher", "--model", "bert-tiny", "--steps",
        2, "--vocab-size", 60, "--context-length", 32, "--held-out", 0)  # fmt: skip

    files = ("--teacher", tmp_path / "teacher", "--data", text, "--out", tmp_path / "small")
    code = run("distill", *files, "--num-layers", 1, "--steps", 2, "--held-out", 0)

    assert code == 0
    assert load_config(tmp_path / "small" / "model").num_layers == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sequence-level",), "--sequence-level is of the task seq2seq"),
        (("--student", "x", "--num-layers", 1), "--student has layers of its own"),
        (("--temperature", 0), "--temperature is 0"),
        (("--resume",), "holds no run"),
        (("--task", "classify", "--minutes", 1), "--hidden-share and --minutes are of text"),
    ],
)
def test_wrong_requests_are_one_line(
    options: tuple[object, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    teacher = tiny_folder(tmp_path / "base", "classify")
    files = ("--teacher", teacher, "--data", tmp_path / "none", "--out", tmp_path / "out")

    assert run("distill", *files, *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1

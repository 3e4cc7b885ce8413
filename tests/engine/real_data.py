"""Real models for tests, which are skipped with the reason where a model is absent."""

import importlib.util
import os
from pathlib import Path

import pytest

__all__ = ["data_path", "package_path"]

DATA = Path(os.environ.get("WELDLM_TEST_DATA", "data"))


def data_path(name: str) -> Path:
    """A file or folder of the data that WELDLM_TEST_DATA names."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is absent; WELDLM_TEST_DATA names the folder")
    return path


def package_path(package: str, name: str = "") -> Path:
    """A file or folder of a package that holds a model."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"the package {package} is absent; install it without its dependencies")
    return Path(found.origin).parent / name

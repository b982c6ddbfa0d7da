"""Parquet tables of encoded images: a column of PNG or JPEG bytes, and one of labels unless there are none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .assemble import Part, assemble
from .checks import require_memory, shown
from .dataset import UNLABELLED, Dataset
from .decode import Encoded, decode
from .naming import siblings
from .options import Options

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGES = ("image", "img", "images", "x", "picture")
_LABELS = ("label", "labels", "target", "y", "class", "fine_label")
#: Columns that tell of an image what is no class: with these alone, a table has no labels.
_DESCRIBE = ("id", "index", "key", "name", "path", "file", "filename", "file_name", "url", "width", "height")


def load_parquet(path: Path, options: Options) -> Dataset:
    """Return the images of ``path``, and of the tables beside it that hold the other sets.

    The images are bytes, or a struct with a field ``bytes``. Class names are read from the schema's
    metadata: ``class_names`` (JSON, or separated by commas), or a ``huggingface`` description.
    """
    return load_tables(siblings(path), path, options)


def load_tables(files: Mapping[str, list[Path]], path: Path, options: Options) -> Dataset:
    """Return the dataset of several tables a set (shards); ``path`` is what the person gave."""
    encoded: list[Encoded] = []
    labels: dict[str, NDArray[Any]] = {}
    classes: tuple[str, ...] | None = None
    for split, tables in files.items():
        columns = []
        for file in tables:
            table = _read(file)
            images = _column(table, file, _IMAGES, images=True)
            encoded += _bytes_of(table[images], file)
            if all(name == images or name.lower() in _DESCRIBE for name in table.column_names):
                columns.append(np.full(table.num_rows, UNLABELLED))
                continue
            column = _column(table, file, _LABELS, images=False)
            columns.append(_labels_of(table[column], file))
            classes = classes or _class_names(table, column)
        labels[split] = np.concatenate(columns)
    name = path.resolve().parent.name if len(files) > 1 and path.is_file() else path.resolve().stem
    images_, notes = decode(encoded, options, f"'{shown(path)}'")
    parts, start = {}, 0
    for split, members in labels.items():
        parts[split] = Part(images_[start : start + len(members)], members)
        start += len(members)
    return assemble(name, parts, options, classes=classes, source=shown(path), notes=notes)


def _read(path: Path) -> pa.Table:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise WorkbenchError(f"Reading '{shown(path)}' takes pyarrow; install it.") from None
    try:
        with pq.ParquetFile(path) as file:
            groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
            require_memory(sum(group.total_byte_size for group in groups), f"file '{shown(path)}'")
            return file.read()
    except WorkbenchError:
        raise
    except Exception as error:  # Arrow raises OSError, ArrowInvalid, ArrowNotImplementedError, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WorkbenchError(f"File '{shown(path)}' cannot be read as Parquet: {shown(reason)}.") from None


def _column(table: pa.Table, path: Path, names: tuple[str, ...], *, images: bool) -> str:
    """The first column called as expected or, failing that, the only one of a fitting type."""
    from pyarrow import types

    def fits(kind: pa.DataType) -> bool:
        if images:
            return bool(_is_bytes(kind) or (types.is_struct(kind) and kind.get_field_index("bytes") >= 0))
        return bool(types.is_integer(kind) or types.is_string(kind))

    for name in names:
        if table.column_names.count(name) > 1:
            raise WorkbenchError(f"File '{shown(path)}' has more than one column '{name}': give each its own name.")
        if name in table.column_names:
            return name
    fitting = [field.name for field in table.schema if fits(field.type)]
    if len(fitting) == 1:
        return str(fitting[0])
    wanted = "'image' with encoded images" if images else "'label' with class numbers"
    present = ", ".join(f"{field.name} ({field.type})" for field in table.schema) or "none"
    raise WorkbenchError(f"File '{shown(path)}' needs a column {wanted}; its columns are: {present}.")


def _is_bytes(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _bytes_of(column: pa.ChunkedArray, path: Path) -> list[Encoded]:
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
        column = pc.struct_field(column, "bytes")
    if not _is_bytes(column.type):
        raise WorkbenchError(
            f"The images in '{shown(path)}' are {column.type}; they must be the bytes of encoded images."
        )
    if column.null_count:
        raise WorkbenchError(f"In '{shown(path)}' {counted(column.null_count, 'row')} without an image: remove them.")
    return [(f"{path.name}, row {row}", value) for row, value in enumerate(column.to_pylist())]


def _labels_of(column: pa.ChunkedArray, path: Path) -> NDArray[Any]:
    if 0 < column.null_count == len(column):
        return np.full(len(column), UNLABELLED)
    if column.null_count:
        raise WorkbenchError(
            f"In '{shown(path)}' {counted(column.null_count, 'row')} without a label: remove them, or the whole column."
        )
    labels: NDArray[Any] = column.to_numpy()
    return labels


def _class_names(table: pa.Table, label: str) -> tuple[str, ...] | None:
    metadata = table.schema.metadata or {}
    try:
        if b"class_names" in metadata:
            text = metadata[b"class_names"].decode()
            names = json.loads(text) if text.lstrip().startswith("[") else text.split(",")
        else:
            names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
        return tuple(str(name).strip() for name in names)
    except (KeyError, TypeError, ValueError):
        return None  # names are a convenience: numbers stand in for them

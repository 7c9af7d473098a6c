"""Files of tables: Parquet and CSV, of which only the column of text is read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.columns import from_column, text_column, value_text
from engine.data.documents import BLOCK, LARGE_TABLE, LARGE_TEXT, MOST_BLOCKS, Documents, Text
from engine.data.rows import CHAT_NOTE, CHATS, COLUMN, no_column
from engine.errors import UserError
from engine.files import open_file

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MOST_ROW = 2**26
"""Bytes of the longest row of a CSV file that is read."""


@contextmanager
def whole(name: str, kind: str) -> Iterator[None]:
    """Say in a sentence that the file `name` is not a whole file of its kind."""
    from pyarrow import ArrowException

    try:
        yield
    except ArrowException as error:
        raise UserError(f"“{name}” is not a whole {kind} file; it may be damaged.", repr(error)) from None


def read_parquet(path: Path) -> Text:
    """The documents of a Parquet file."""
    import pyarrow.parquet as pq

    with whole(path.name, "Parquet"), os.fdopen(open_file(path), "rb") as stream, pq.ParquetFile(stream) as file:
        column = text_column(file.schema_arrow, f"“{path.name}”")
        if sum(_sizes(file, column)) <= LARGE_TABLE:
            return from_column(file.read(columns=[column])[column], column, path.name)
        blocks = RowBlocks(path, column, _sizes(file, column), [group.num_rows for group in _groups(file)])
    note = f"“{path.name}” is large: rows are read where they are drawn, and those without text are passed over"
    notes = (note, CHAT_NOTE.format(name=path.name)) if column in CHATS else (note,)
    return Text(blocks, notes, blocks=True)


def _groups(file: "pq.ParquetFile") -> "list[pq.RowGroupMetaData]":
    return [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]


def _sizes(file: "pq.ParquetFile", column: str) -> list[int]:
    """Bytes of the column in each group of rows, as the file declares them."""
    return [
        sum(
            max(part.total_uncompressed_size, part.total_compressed_size)
            for part in map(group.column, range(group.num_columns))
            if part.path_in_schema.split(".")[0] == column
        )
        for group in _groups(file)
    ]


class RowBlocks(Documents):
    """The texts of a few rows of a Parquet file, as one document a block; one group of rows is in memory at a time."""

    def __init__(self, path: Path, column: str, sizes: list[int], rows: list[int]) -> None:
        self._path, self._column = path, column
        self._blocks: list[tuple[int, int, int]] = []
        for group, (size, count) in enumerate(zip(sizes, rows, strict=True)):
            step = max(1, -(-count // max(1, min(size // BLOCK, MOST_BLOCKS))))
            self._blocks += [(group, first, step) for first in range(0, count, step)]
        self._kept: tuple[int, pa.ChunkedArray] | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    def read(self, index: int) -> str:
        group, first, step = self._blocks[index]
        name = self._path.name
        if self._kept is None or self._kept[0] != group:
            self._kept = group, self._group(group)
        with whole(name, "Parquet"):
            values = self._kept[1].slice(first, step).to_pylist()
        texts = (value_text(value, self._column, f"“{name}”") for value in values)
        return "\n\n".join(filter(None, texts))[:LARGE_TEXT]

    def _group(self, number: int) -> "pa.ChunkedArray":
        import pyarrow.parquet as pq

        self._kept = None  # the one before may go first
        name, column = self._path.name, self._column
        with whole(name, "Parquet"), os.fdopen(open_file(self._path), "rb") as stream, pq.ParquetFile(stream) as file:
            return file.read_row_group(number, columns=[column])[column]


def read_csv(path: Path) -> Text:
    """The documents of a CSV file (of a .tsv, with tabs) whose first line names its columns."""
    import pyarrow as pa
    from pyarrow import csv

    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    reading = csv.ReadOptions(block_size=max(1, min(path.stat().st_size, MOST_ROW)))
    with os.fdopen(open_file(path), "rb") as stream:
        try:
            with csv.open_csv(stream, reading, parsing) as reader:
                names = reader.schema.names
            if names.count(COLUMN) != 1:
                raise no_column(f"“{path.name}”", names)
            stream.seek(0)
            only = csv.ConvertOptions(
                include_columns=[COLUMN], column_types={COLUMN: pa.string()}, strings_can_be_null=False
            )
            values = csv.read_csv(stream, reading, parsing, only)[COLUMN]
        except pa.ArrowException as error:
            why = str(error).splitlines()[0].removeprefix("CSV parse error: ")
            raise UserError(f"“{path.name}” cannot be read as a table: {why}.", repr(error)) from None
    return from_column(values, COLUMN, path.name)

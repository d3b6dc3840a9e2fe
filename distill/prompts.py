"""Read the prompts that a student is trained on, one by one, from text, tables and archives.

Every file is read as a stream: only the prompts themselves are kept in memory.
"""

from __future__ import annotations

import csv
import gzip
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, cast

from sidestep.errors import BackendUnavailable, InvalidTraining

LONGEST = 10_000  # characters of a prompt; CLIP reads 77 tokens
LONGEST_ROW = 1_000_000  # of a table's row, whose other columns may be long
COLUMNS = ("prompt", "caption", "text")  # taken without asking, in any case: LAION's is TEXT


@dataclass(frozen=True)
class TrainingPrompts:
    """Distinct prompts in the file's order, and how many it had besides.

    duplicates: dropped because they were there already; excluded: because of --exclude
    """

    texts: list[str]
    duplicates: int = 0
    excluded: int = 0

    def __str__(self) -> str:
        """Tell in one line what is trained on and what was dropped."""
        return (
            f"{len(self.texts):,} prompts; dropped {self.duplicates:,} duplicates "
            f"and {self.excluded:,} excluded ones"
        )


def read_prompts(
    path: Path, *, column: str | None = None, exclude: Path | None = None
) -> TrainingPrompts:
    """Read prompts from .txt, .tar (its .txt files), .csv or .parquet, the first three also as .gz.

    Whitespace inside a prompt counts as one space, as CLIP's tokenizer has it. A prompt is dropped
    if it equals an earlier one, or one of the file `exclude` whatever the case of the letters.
    column: the table's column; one called prompt, caption or text is found without it

    Raises InvalidTraining naming file, line and bound; BackendUnavailable where pyarrow is missing.
    """
    forbidden = set()
    if exclude is not None:
        forbidden = {text.casefold() for text in _texts(exclude, "--exclude", None)}
    prompts: dict[str, None] = {}  # a set that keeps the order
    duplicates = excluded = 0
    for text in _texts(path, "--prompts", column):
        if forbidden and text.casefold() in forbidden:
            excluded += 1
        elif text in prompts:
            duplicates += 1
        else:
            prompts[text] = None
    if not prompts:
        raise InvalidTraining(
            f"--exclude {exclude} leaves nothing of --prompts {path}; its {excluded:,} prompts "
            "are all excluded"
        )
    return TrainingPrompts(list(prompts), duplicates, excluded)


def _texts(path: Path, option: str, column: str | None) -> Iterator[str]:
    """Yield a file's prompts, at least one; `option` names the file in errors."""
    where = f"{option} {path}"
    some = False
    try:
        for text in _raw_texts(path, where, column):
            if prompt := " ".join(text.split()):
                some = True
                yield prompt
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InvalidTraining(f"{where} cannot be read ({error})") from error
    if not some:
        raise InvalidTraining(f"{where} has no prompts; write one per line")


def _raw_texts(path: Path, where: str, column: str | None) -> Iterator[str]:
    packed = path.suffix.lower() == ".gz"
    kind = Path(path.stem if packed else path.name).suffix.lower()
    with cast("IO[bytes]", gzip.open(path) if packed else path.open("rb")) as file:
        if kind == ".tar":
            yield from _tar_lines(file, where)
        elif kind == ".csv":
            yield from _csv_column(file, where, column)
        elif kind == ".parquet":
            yield from _parquet_column(file, where, column)
        else:
            yield from _lines(file, where)


def _lines(file: IO[bytes], where: str, *, longest: int = LONGEST) -> Iterator[str]:
    """Yield a text's lines; neither a line nor a binary file is read beyond the bound."""
    most_bytes = 4 * longest + 2  # UTF-8 takes up to 4 bytes for a character; then \r\n
    number = 0
    while line := file.readline(most_bytes + 1):
        number += 1
        if b"\0" in line:
            raise InvalidTraining(f"{where} is binary, not text (line {number} has a zero byte)")
        if len(line) > most_bytes:
            raise _too_long(where, number, longest)
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidTraining(
                f"{where} is not UTF-8 text (line {number}: {error.reason})"
            ) from error
        if len(text.rstrip("\r\n")) > longest:
            raise _too_long(where, number, longest)
        yield text


def _too_long(where: str, number: int, longest: int) -> InvalidTraining:
    return InvalidTraining(f"{where} line {number} has more than {longest:,} characters")


def _tar_lines(file: IO[bytes], where: str) -> Iterator[str]:
    """Yield the lines of an archive's regular .txt files in its order; nothing is extracted.

    The authors' archives hold one prompt per line, as in aesthetics_6_plus.txt. Hidden files are
    what macOS adds.
    """
    some = False
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for member in archive:
            name = Path(member.name)
            text = name.suffix.lower() == ".txt" and not name.name.startswith(".")
            if member.isreg() and text:
                some = True
                content = archive.extractfile(member)
                assert content is not None  # only None for what is not a regular file
                yield from _lines(content, f"{where}:{member.name}")
            # The reader remembers every member that it passed, of what may be millions.
            archive.members.clear()  # type: ignore[attr-defined]
    if not some:
        raise InvalidTraining(f"{where} has no .txt files")


def _csv_column(file: IO[bytes], where: str, column: str | None) -> Iterator[str]:
    rows = csv.reader(_lines(file, where, longest=LONGEST_ROW), strict=True)
    try:
        header = next(rows, [])
        index = header.index(_choose(header, column, where))
        for row in rows:
            if row and len(row) <= index:
                raise InvalidTraining(
                    f"{where} line {rows.line_num} has {len(row)} columns, not {len(header)}"
                )
            yield from _cells(row[index : index + 1], where, rows.line_num)
    except csv.Error as error:
        raise InvalidTraining(f"{where} line {rows.line_num} is not CSV ({error})") from error


def _parquet_column(file: IO[bytes], where: str, column: str | None) -> Iterator[str]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise BackendUnavailable("pyarrow") from error
    try:
        table = parquet.ParquetFile(file)
        name = _choose(table.schema_arrow.names, column, where)
        number = 1
        for batch in table.iter_batches(columns=[name], batch_size=65_536):
            cells = batch.column(0).to_pylist()
            yield from _cells(cells, where, number)
            number += len(cells)
    except arrow.ArrowException as error:
        raise InvalidTraining(f"{where} is not Parquet ({error})") from error


def _cells(cells: Sequence[object], where: str, first: int) -> Iterator[str]:
    """Yield the texts of a column, of which the first stands in line `first`; None is no text."""
    for number, cell in enumerate(cells, first):
        if cell is None:
            continue
        if not isinstance(cell, str):
            raise InvalidTraining(f"{where} line {number} holds {cell!r:.40}, not a text")
        if len(cell) > LONGEST:
            raise _too_long(where, number, LONGEST)
        yield cell


def _choose(names: list[str], column: str | None, where: str) -> str:
    """Find the column of prompts by its name."""
    wanted = [column] if column is not None else list(COLUMNS)
    found = [name for name in names if name == column or (not column and name.lower() in COLUMNS)]
    if len(found) == 1:
        return found[0]
    raise InvalidTraining(
        f"{where} must have one column called {' or '.join(wanted)}, and has: "
        f"{', '.join(names) or 'none'}; choose with --prompts-column"
    )

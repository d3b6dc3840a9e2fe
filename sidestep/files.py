"""Files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sidestep.errors import InvalidModel

if sys.platform != "win32":
    import fcntl


@contextmanager
def atomic_path(path: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name on success and vanishes on error.

    mode: the permissions of the file from its first byte under that name

    A reader never sees half a file, also when the process is killed: what is left then is a
    hidden `.NAME.*` file that nothing reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process or thread is in this block for `path`, which is read and written.

    By a lock on its folder, which leaves nothing behind; on Windows there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)  # which lets the next one in


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` that takes its place on success and vanishes on error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as name:
        new = Path(name) / path.name
        new.mkdir()
        yield new
        older = Path(name) / f"{path.name}.old"
        try:
            if path.exists():
                path.rename(older)
            new.rename(path)
        except BaseException:  # Ctrl-C between the two
            if older.exists() and not path.exists():
                older.rename(path)
            raise


def check_new_folder(path: Path, size_bytes: int) -> None:
    """Check before long work that `path` is free and its disk has room for `size_bytes`.

    Raises InvalidModel with the mend.
    """
    if path.exists():
        raise InvalidModel(f"{path} exists; delete it or choose another folder")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InvalidModel(f"{parent} is no folder to write in; choose another for {path.name}")
    free = shutil.disk_usage(parent).free
    if free < size_bytes:
        raise InvalidModel(
            f"{path} needs {size_bytes / 1e9:,.1f} GB and its disk has {free / 1e9:,.1f} GB free; "
            "make room or choose another disk"
        )


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path, mode=mode) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Write `value` to `path` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode(), mode=mode)


def sha256(path: Path) -> str:
    """Hash a file's bytes; 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

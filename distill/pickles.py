"""Read the authors' checkpoints, pickles of a live UNet, without running anything in them.

A pickle is a program that imports names and calls them. Here every name it may import becomes a
`Record` type, which only keeps what it is called with: running the program gives a description
of the objects and never the objects. A name that no Stable Diffusion UNet needs is refused.

`pickle.dump` keeps each tensor's numbers in a small torch file of the older kind inside the
pickle; `torch.save` keeps them beside it, in a zip or one after another. All three are read.
"""

from __future__ import annotations

import functools
import io
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

from sidestep.errors import InvalidModel

UNET = "UNet2DConditionModel"
MAGIC = 0x1950A86A20F9469CFC6C  # first value of a torch file of the older kind
_CLASSES = re.compile(
    r"(diffusers\.models(\.\w+)*|torch\.nn\.modules\.[a-z_]+)\.[A-Z]\w*"
    r"|diffusers\.configuration_utils\.FrozenDict"
)
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.BoolStorage": torch.bool,
}
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_TENSOR = "torch._utils._rebuild_tensor_v2"
_NESTED = "torch.storage._load_from_bytes"
_NAMES = {
    *_STORAGES,
    *_PARAMETERS,
    _TENSOR,
    _NESTED,
    *(f"torch.{kind}" for kind in ("float64", "float32", "float16", "bfloat16", "Size", "device")),
    "__builtin__.set",
    "builtins.set",
    "collections.OrderedDict",
    "functools.partial",
}


@dataclass(frozen=True)
class PickledUNet:
    """What a checkpoint holds: weights as views of the file's bytes, and the UNet's config."""

    weights: dict[str, Tensor]
    config: dict[str, Any]


def read_checkpoint(path: Path) -> PickledUNet:
    """Read `{"ema": UNet2DConditionModel}`.

    Raises InvalidModel for what is no such file, and naming what a hostile one tried to import.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the views must not be written to
            return _checkpoint(_read(path), path)
    except InvalidModel:
        raise
    except OSError as error:
        raise InvalidModel(f"{path} cannot be read ({error})") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise InvalidModel(
            f"{path} is damaged or no checkpoint of SiD-LSG ({type(error).__name__}: {error}); "
            "download it again"
        ) from error


class Record:
    """An object that was not made: the name of its class, and what it was to be made with."""

    origin: ClassVar[str] = ""
    args: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Record:
        """Keep the arguments, call nothing."""
        record = super().__new__(cls)
        record.args, record.state, record.items = args, {}, {}
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value


@dataclass
class _Storage:
    """A tensor's numbers; `data` follows the pickle that refers to it."""

    dtype: torch.dtype
    count: int
    data: memoryview | bytes = b""

    @property
    def size_bytes(self) -> int:
        return self.count * self.dtype.itemsize


class _Reader(pickle.Unpickler):
    """An unpickler whose names are all Records."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self.path = path
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> type[Record]:
        origin = f"{module}.{name}"
        if origin not in _NAMES and not _CLASSES.fullmatch(origin):
            raise InvalidModel(
                f"{self.path} tries to import {origin}, which no Stable Diffusion UNet needs; "
                "nothing in it was executed. Do not trust this file"
            )
        return _record_type(origin)

    def persistent_load(self, pid: Any) -> Any:
        kind, *values = pid
        if kind == "module":  # an nn.Module's class, with its source code
            return values[0]
        storage, key, _device, count, *view = values
        if kind != "storage" or any(view):
            raise ValueError(f"unknown reference {kind}")
        return self.storages.setdefault(key, _Storage(_STORAGES[storage.origin], count))


@functools.cache
def _record_type(origin: str) -> type[Record]:
    return type(origin.rpartition(".")[2], (Record,), {"origin": origin})


def _read(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    with path.open("rb") as file:
        value = _Reader(file, path).load()
    return _read_older(path.read_bytes(), path) if value == MAGIC else value


def _read_zip(path: Path) -> Any:
    """Read torch.save's zip: data.pkl, and every storage as a file, none compressed."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = name.removesuffix("data.pkl")
        if (
            f"{root}byteorder" in archive.namelist()
            and archive.read(f"{root}byteorder")[:3] == b"big"
        ):
            raise ValueError("big-endian numbers")
        with archive.open(name) as file:
            reader = _Reader(file, path)
            value = reader.load()
        for key, storage in reader.storages.items():
            info = archive.getinfo(f"{root}data/{key}")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != storage.size_bytes:
                raise ValueError(f"{info.filename} is not {storage.size_bytes} plain bytes")
            storage.data = archive.read(info)
    return value


def _read_older(data: bytes, path: Path) -> Any:
    """Read a torch file of the older kind: five pickles, then (count int64, numbers) by key."""
    stream = io.BytesIO(data)
    magic, _version, system = (_Reader(stream, path).load() for _ in range(3))
    if magic != MAGIC or not system["little_endian"]:
        raise ValueError("not a little-endian torch file")
    reader = _Reader(stream, path)
    value = reader.load()
    keys = _Reader(stream, path).load()
    at = stream.tell()
    for key in keys:
        storage = reader.storages[key]
        (count,) = struct.unpack_from("<q", data, at)
        storage.data = memoryview(data)[at + 8 : at + 8 + storage.size_bytes]
        if count != storage.count or len(storage.data) != storage.size_bytes:
            raise ValueError("storage is truncated")
        at += 8 + storage.size_bytes
    return value


def _checkpoint(value: Any, path: Path) -> PickledUNet:
    if not isinstance(value, dict) or "ema" not in value:
        found = f"keys {', '.join(map(repr, value))}" if isinstance(value, dict) else _kind(value)
        raise InvalidModel(f"{path} holds {found}; a checkpoint of SiD-LSG holds 'ema', a {UNET}")
    unet = value["ema"]
    if _kind(unet) != UNET:
        raise InvalidModel(f"{path} holds a {_kind(unet)} as 'ema'; it must be a {UNET}")
    config = _mapping(unet.state.get("_internal_dict", {}))
    plain = {key: value for key, value in config.items() if not isinstance(value, Record)}
    return PickledUNet(_weights(unet, path), plain)


def _weights(module: Record, path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Collect a module's parameters and lasting buffers, and those of the modules inside it."""
    weights = {}
    state = module.state
    unsaved = state.get("_non_persistent_buffers_set", ())
    unsaved = unsaved.args[0] if isinstance(unsaved, Record) and unsaved.args else unsaved
    for name, value in {**_mapping(state["_parameters"]), **_mapping(state["_buffers"])}.items():
        if value is not None and name not in unsaved:
            weights[prefix + name] = _tensor(value, path)
    for name, child in _mapping(state["_modules"]).items():
        if child is not None:
            weights.update(_weights(child, path, f"{prefix}{name}."))
    return weights


def _tensor(record: Any, path: Path) -> Tensor:
    if record.origin in _PARAMETERS:
        return _tensor(record.args[0], path)
    if record.origin != _TENSOR:
        raise ValueError(f"{record.origin} is no tensor")
    storage, offset, size, stride = record.args[:4]
    if isinstance(storage, Record):
        if storage.origin != _NESTED:
            raise ValueError(f"{storage.origin} is no storage")
        storage = _read_older(storage.args[0], path)
    numbers = torch.frombuffer(storage.data, dtype=storage.dtype)
    return numbers.as_strided(size, stride, offset)  # torch checks the bounds


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value.items if isinstance(value, Record) else value


def _kind(value: Any) -> str:
    return type(value).__name__

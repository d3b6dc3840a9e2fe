"""The authors' pickles are read, and nothing in any pickle is executed."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill.folders import Teacher
from distill.pickles import read_checkpoint
from sidestep.errors import InvalidModel

GOLDEN = Path(__file__).parents[1] / "golden"


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.reduced = (function, args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def test_a_pickle_of_diffusers_0_27_is_read() -> None:
    """Written by diffusers 0.27.2 with `pickle.dump({"ema": unet}, file)`, as the authors do."""
    checkpoint = read_checkpoint(GOLDEN / "unet-diffusers-0.27.pkl")
    wanted = load_file(GOLDEN / "unet-diffusers-0.27.safetensors")
    assert set(checkpoint.weights) == set(wanted)
    for name, tensor in wanted.items():
        assert checkpoint.weights[name].dtype == torch.float16
        assert torch.equal(checkpoint.weights[name], tensor), name
    assert checkpoint.config["sample_size"] == 8
    assert checkpoint.config["block_out_channels"] == (4,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("container", ["pickle", "zip", "older"])
def test_every_container_gives_the_weights(
    tiny_teacher: Teacher, tmp_path: Path, dtype: torch.dtype, container: str
) -> None:
    path = tmp_path / "x.pkl"
    unet = _copy(tiny_teacher.unet).to(dtype)
    if container == "pickle":
        path.write_bytes(pickle.dumps({"ema": unet}))
    else:
        torch.save({"ema": unet}, path, _use_new_zipfile_serialization=container == "zip")
    weights = read_checkpoint(path).weights
    wanted = unet.state_dict()
    assert set(weights) == set(wanted)
    assert all(torch.equal(weights[name], tensor) for name, tensor in wanted.items())
    assert {tensor.dtype for tensor in weights.values()} == {dtype}


def _copy(unet: Any) -> Any:
    return type(unet).from_config(unet.config).requires_grad_(False)


def _global(origin: str) -> bytes:
    """A pickle that calls `origin`, split at its last dot, with one text."""
    module, _, name = origin.rpartition(".")
    return f"c{module}\n{name}\n".encode() + b"(Vtouch hacked\ntR."


def _dotted(module: str, name: str) -> bytes:
    """The same through STACK_GLOBAL, whose names may have dots."""
    texts = b"".join(
        b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name, "touch hacked")
    )
    first, second = texts[: 2 + len(module)], texts[2 + len(module) :]
    middle = 2 + len(name)
    return b"\x80\x04" + first + second[:middle] + b"\x93" + second[middle:] + b"\x85R."


HOSTILE = {
    "posix.system": pickle.dumps(Calls(os.system, "touch hacked")),
    "os.system": _global("os.system"),
    "builtins.eval": pickle.dumps(Calls(builtins.eval, "open('hacked', 'w')")),
    "builtins.exec": pickle.dumps(Calls(builtins.exec, "open('hacked', 'w')")),
    "builtins.getattr": pickle.dumps(Calls(getattr, "a", "upper")),
    "subprocess.Popen": pickle.dumps(Calls(subprocess.Popen, ["touch", "hacked"])),
    "torch.serialization.load": pickle.dumps(Calls(torch.load, "hacked")),
    "torch.nn.modules.os.system": _global("torch.nn.modules.os.system"),
    "diffusers.models.os.system": _global("diffusers.models.os.system"),
    "torch.nn.modules.module.os.system": _dotted("torch.nn.modules", "module.os.system"),
    "diffusers.utils.import_utils.subprocess.Popen": _dotted(
        "diffusers.utils.import_utils", "subprocess.Popen"
    ),
    "torch.hub.load": _global("torch.hub.load"),
}


@pytest.mark.parametrize("wrap", ["alone", "in ema", "in a partial", "in _load_from_bytes"])
@pytest.mark.parametrize("origin", HOSTILE)
def test_a_hostile_pickle_is_refused_by_the_name_it_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: str, wrap: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data = HOSTILE[origin]
    if wrap == "in ema":
        data = b"}Vema\n" + data.removesuffix(b".") + b"s."
    elif wrap == "in a partial":
        data = b"cfunctools\npartial\n(" + data.removesuffix(b".") + b"tR."
    elif wrap == "in _load_from_bytes":
        stream = io.BytesIO()
        torch.save(torch.zeros(2), stream, _use_new_zipfile_serialization=False)
        older = stream.getvalue()
        head = b"".join(_pickles(older)[:3])
        data = pickle.dumps({"ema": _unet_with(Calls(torch.storage._load_from_bytes, head + data))})
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with pytest.raises(InvalidModel) as refused:
        read_checkpoint(path)
    assert f"tries to import {origin}," in str(refused.value)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pkl"]


def _pickles(data: bytes) -> list[bytes]:
    """Split the pickles at the beginning of a torch file of the older kind."""
    stream, parts = io.BytesIO(data), []
    for _ in range(3):
        at = stream.tell()
        pickle.load(stream)
        parts.append(data[at : stream.tell()])
    return parts


def _unet_with(storage: Calls) -> Any:
    """A UNet with one weight, whose storage is what a hostile file puts there."""
    weight = Calls(torch._utils._rebuild_tensor_v2, storage, 0, (2,), (1,), False, {})
    return _Pretended({"_parameters": {"weight": weight}, "_buffers": {}, "_modules": {}})


class _Pretended:
    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel, (), self.state


def test_attributes_of_the_stand_ins_cannot_be_changed(tmp_path: Path) -> None:
    """BUILD on an imported name itself, instead of on an object of it."""
    path = tmp_path / "x.pkl"
    path.write_bytes(b"ccollections\nOrderedDict\n}V__new__\nVx\nsb.")
    with pytest.raises(InvalidModel, match="is damaged or no checkpoint"):
        read_checkpoint(path)
    assert read_checkpoint(GOLDEN / "unet-diffusers-0.27.pkl").weights


def test_a_view_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    storage = torch.zeros(2)._typed_storage()  # the storage that tensors are pickled with
    torch.save(storage, stream, _use_new_zipfile_serialization=False)
    nested = Calls(torch.storage._load_from_bytes, stream.getvalue())
    weight = Calls(torch._utils._rebuild_tensor_v2, nested, 1, (2,), (1,), False, {})
    unet = _Pretended({"_parameters": {"weight": weight}, "_buffers": {}, "_modules": {}})
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"ema": unet}))
    with pytest.raises(InvalidModel, match="out of bounds"):
        read_checkpoint(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged or no checkpoint"),
        (b"<html>not found</html>", "is damaged or no checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is damaged or no checkpoint"),
        (pickle.dumps([1, 2]), "holds list; a checkpoint of SiD-LSG holds 'ema'"),
        (pickle.dumps({"G": 1, "D": 2}), "holds keys 'G', 'D'; a checkpoint of SiD-LSG"),
        (pickle.dumps({"ema": {"weight": 1}}), "holds a dict as 'ema'"),
        (pickle.dumps({"ema": torch.nn.Linear(1, 1)}), "holds a Linear as 'ema'"),
    ],
)
def test_what_is_no_checkpoint_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=words) as refused:
        read_checkpoint(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("container", ["pickle", "zip", "older"])
def test_a_truncated_file_is_said(
    tiny_teacher: Teacher, tmp_path: Path, part: float, container: str
) -> None:
    path = tmp_path / "x.pkl"
    if container == "pickle":
        path.write_bytes(pickle.dumps({"ema": tiny_teacher.unet}))
    else:
        zipped = container == "zip"
        torch.save({"ema": tiny_teacher.unet}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InvalidModel, match="download it again"):
        read_checkpoint(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="cannot be read"):
        read_checkpoint(tmp_path / "nowhere.pkl")

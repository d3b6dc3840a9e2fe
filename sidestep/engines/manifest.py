"""What binds a compiled plan to the machine, the GPU, the library and the model it was made for.

A plan is executable code. Only one is loaded whose manifest was written on this machine: it is
signed with a key that never leaves the user's own files, so a plan that arrives with a model, with
or without a manifest, is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sidestep.errors import EngineMismatch, InvalidModel
from sidestep.files import one_at_a_time, sha256, write_bytes, write_json

MANIFEST = "manifest.json"
PLAN = "generator.plan"
PACKAGE = "generator.pt2"  # AOTInductor's plan
FORMAT = 1
KEY = "SIDESTEP_ENGINE_KEY"


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json` beside a plan.

    library, library_version: the compiler, whose runtime must be the same release
    target: "sm89", or "current" with the name of the GPU in `gpu` and its driver in `driver`
    tensors: name -> type and shape of what the plan takes and gives; -1 is the batch
    layer_types: how many layers of each kind the parsed network has, by the type of their result
    plan, onnx, weights: SHA-256 of the plan, of the graph it was compiled from, of the model
    """

    library: str
    library_version: str
    target: str
    precision: str
    buckets: tuple[int, ...]
    tensors: dict[str, Any]
    layer_types: dict[str, Any]
    plan_bytes: int
    plan: str
    onnx: str
    weights: str
    gpu: str | None = None
    driver: str | None = None
    format: int = FORMAT
    signature: str = field(default="", compare=False)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Sign a manifest with this machine's key and write it."""
    signature = _sign(manifest, _key(create=True))
    write_json(folder / MANIFEST, asdict(replace(manifest, signature=signature)))


def read_manifest(folder: Path, mend: str) -> Manifest:
    """Read and check the manifest of the plan in `folder`.

    Raises InvalidModel for a missing or damaged file and EngineMismatch, naming `mend`, for one
    that was not written on this machine or is of another plan.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        names = {f.name for f in fields(Manifest)}
        manifest = Manifest(**{name: values[name] for name in names})
        manifest = replace(manifest, buckets=tuple(int(b) for b in manifest.buckets))
    except FileNotFoundError:
        raise InvalidModel(f"{path} is missing, so its plan is not loaded; run: {mend}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"{path} is damaged ({error!r}); run: {mend}") from error
    key = _key(create=False)
    wanted = _sign(manifest, key) if key else "no key"
    if not hmac.compare_digest(wanted.encode(), str(manifest.signature).encode()):
        raise EngineMismatch(
            "the signature", plan=manifest.signature[:12], here=wanted[:12], mend=mend
        )
    plan = folder / (PACKAGE if manifest.library == "aoti" else PLAN)
    if not plan.is_file():
        raise InvalidModel(f"{plan} is missing; run: {mend}")
    if (found := sha256(plan)) != manifest.plan:
        raise EngineMismatch("the plan's hash", plan=manifest.plan[:12], here=found[:12], mend=mend)
    return manifest


def check_manifest(manifest: Manifest, here: dict[str, Any], mend: str) -> None:
    """Compare fields of a manifest with what they are here; raises EngineMismatch at the first."""
    for name, value in here.items():
        if (found := getattr(manifest, name)) != value:
            raise EngineMismatch(name, plan=found, here=value, mend=mend)


def _sign(manifest: Manifest, key: bytes) -> str:
    text = json.dumps(asdict(replace(manifest, signature="")), sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _key(*, create: bool) -> bytes:
    """Return this machine's key: SIDESTEP_ENGINE_KEY, else a file of the user's own; or nothing."""
    if given := os.environ.get(KEY):
        return given.encode()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "sidestep" / "engine.key"
    if create:
        with one_at_a_time(path):
            if not _content(path):
                write_bytes(path, secrets.token_hex(32).encode(), mode=0o600)
    return _content(path)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""

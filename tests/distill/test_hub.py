"""Teachers by hub id: the hub's own client, against its cache layout and a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import constants

from distill.folders import Teacher, load_teacher, read_held_out, write_teacher
from distill.hub import checkpoint_file, teacher_folder
from sidestep.cli.distill import command
from sidestep.errors import InvalidModel
from sidestep.tokenizer import PromptTokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLOSED = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture
def published(tiny_teacher: Teacher, tmp_path: Path) -> Path:
    """A teacher's folder as people publish them, with files that nobody here should fetch."""
    folder = tmp_path / "published"
    write_teacher(folder, replace(tiny_teacher, held_out=("crying cat",)))
    for name in (
        "v1-5-pruned.ckpt",
        "checkpoint.pkl",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "safety_checker/model.safetensors",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not wanted")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub that cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    point_at(CLOSED, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return tmp_path / "hub"


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does before the client is imported."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)


def put_into_cache(cache: Path, repo: str, source: Path) -> None:
    """Lay `source` out as the hub's cache: blobs by hash, snapshots of links, refs by name."""
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    (root / "blobs").mkdir()
    for file in source.rglob("*"):
        if file.is_file():
            blob = root / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            shutil.copy(file, blob)
            link = root / "snapshots" / COMMIT / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)


@pytest.fixture
def hub(published: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub that serves `published` as someone/teacher; yields the files it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def answer(self, *, body: bool) -> None:
            path = self.path.partition("?")[0]
            if path == "/api/models/someone/teacher/revision/main":
                data = json.dumps({"id": "someone/teacher", "sha": COMMIT}).encode()
            elif path == f"/api/models/someone/teacher/tree/{COMMIT}":
                data = json.dumps(tree(published)).encode()
            elif path.startswith("/someone/teacher/resolve/"):
                file = path.split("/", 5)[5]
                if not (published / file).is_file():
                    return self.refuse(404, "EntryNotFound")
                asked.append(file)
                data = (published / file).read_bytes()
            elif "/someone/teacher/" in path:
                return self.refuse(404, "RevisionNotFound")
            else:
                return self.refuse(401, "RepoNotFound")
            self.send_response(200)
            self.send_header("ETag", hashlib.sha256(data).hexdigest())
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    point_at(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def tree(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": file.relative_to(folder).as_posix(),
            "size": file.stat().st_size,
            "oid": hashlib.sha1(file.read_bytes()).hexdigest(),
        }
        for file in folder.rglob("*")
        if file.is_file()
    ]


def same_teacher(folder: Path, teacher: Teacher) -> None:
    loaded = load_teacher(folder)
    for ours, theirs in (
        (loaded.unet, teacher.unet),
        (loaded.vae, teacher.vae),
        (loaded.text_encoder, teacher.text_encoder),
    ):
        for name, tensor in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], tensor), name
    np.testing.assert_array_equal(
        PromptTokenizer(loaded.tokenizer, length=12)(["red apple"]),
        PromptTokenizer(teacher.tokenizer, length=12)(["red apple"]),
    )


def test_a_folder_is_itself(tmp_path: Path, cache: Path) -> None:
    assert teacher_folder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_cached_model_needs_no_hub(
    published: Path, cache: Path, tiny_teacher: Teacher, revision: str
) -> None:
    put_into_cache(cache, "someone/teacher", published)
    folder = teacher_folder(f"someone/teacher{revision}")
    assert folder == (cache / "models--someone--teacher" / "snapshots" / COMMIT).resolve()
    same_teacher(folder, tiny_teacher)


def test_only_what_a_teacher_needs_is_fetched(
    hub: list[str], cache: Path, tiny_teacher: Teacher
) -> None:
    folder = teacher_folder("someone/teacher")
    same_teacher(folder, tiny_teacher)
    assert read_held_out(folder) == ("crying cat",)
    assert sorted(set(hub)) == [
        "held-out.txt",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]
    assert checkpoint_file("hub:someone/teacher/checkpoint.pkl").read_bytes() == b"not wanted"


def test_another_architecture_costs_no_weights(hub: list[str], published: Path) -> None:
    index = json.loads((published / "model_index.json").read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    (published / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidModel, match="has two text encoders"):
        teacher_folder("someone/teacher")
    assert not any(file.endswith(".safetensors") for file in hub)


def test_a_dry_run_costs_no_weights(hub: list[str], tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("red apple\n")
    arguments = ["--teacher", "someone/teacher", "--prompts", str(tmp_path / "prompts.txt")]
    planned = CliRunner().invoke(command, [*arguments, "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert "together, per device" in planned.stdout
    assert "unet/config.json" in hub
    assert not any(file.endswith(".safetensors") for file in hub)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody/nothing", "the hub has no model nobody/nothing"),
        ("someone/teacher@v9", "has no such revision"),
        ("hub:someone/teacher/nothing.pkl", "has no such file"),
    ],
)
def test_what_the_hub_lacks_is_said(hub: list[str], name: str, words: str) -> None:
    with pytest.raises(InvalidModel, match=words) as refused:
        checkpoint_file(name) if name.startswith("hub:") else teacher_folder(name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("someone/teacher", "the hub cannot be reached; give a folder, or run `hf download"),
        ("hub:someone/teacher/x.pkl", "the hub cannot be reached"),
        ("runs/my teacher", "is not a folder; give one in the diffusers layout"),
        ("nowhere", "is not a folder; give one in the diffusers layout"),
        ("../..x", "neither a folder nor a name"),
        ("hub:x.pkl", "is not hub:OWNER/NAME/FILE"),
    ],
)
def test_without_a_hub_the_mend_is_said(cache: Path, name: str, words: str) -> None:
    with pytest.raises(InvalidModel, match=words) as refused:
        checkpoint_file(name) if name.startswith("hub:") else teacher_folder(name)
    assert "\n" not in str(refused.value)


def test_a_file_is_no_teacher(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(InvalidModel, match="is not a folder"):
        teacher_folder(str(tmp_path / "x.safetensors"))

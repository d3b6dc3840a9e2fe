"""Teachers and checkpoints from the Hugging Face hub, through its own cache."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from distill.architecture_check import check_architecture
from sidestep.errors import InvalidModel, one_line
from sidestep.model_folder import HELD_OUT

PREFIX = "hub:"
_MODEL = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_FILE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+?)(@(?P<revision>[\w./-]+))?")
# All that `load_teacher` reads. Never .bin, .ckpt or .pkl, which can run code, nor second copies
# of the weights in other precisions.
CONFIGS = [
    "model_index.json",
    "sidestep.json",
    "training.json",
    "README.md",  # which names the licence
    HELD_OUT,
    "*/config.json",
    "*/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
]
WEIGHTS = [
    f"{folder}/{name}{part}"
    for folder, name in (
        ("text_encoder", "model"),
        ("unet", "diffusion_pytorch_model"),
        ("teacher/unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
    )
    for part in (".safetensors", ".safetensors.index.json", "-*-of-*.safetensors")
]


def teacher_folder(name: str, *, weights: bool = True) -> Path:
    """Return the folder `name`, or that of the hub's model OWNER/NAME[@REVISION], fetching it.

    The configs come first, so that an architecture that is not supported costs no download.
    weights: whether they are fetched, too
    Raises InvalidModel with the mend where there is neither, or the hub cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    match = _MODEL.fullmatch(name.removeprefix(PREFIX))
    if path.exists() or match is None:
        raise InvalidModel(
            f"{name} is not a folder; give one in the diffusers layout, or a model of the "
            "hub as OWNER/NAME[@REVISION]"
        )
    folder = _fetch(name, match, CONFIGS)
    check_architecture(folder)
    return _fetch(name, match, CONFIGS + WEIGHTS) if weights else folder


def checkpoint_file(name: str) -> Path:
    """Return the file `name`, or the hub's file `hub:OWNER/NAME/FILE[@REVISION]`, fetching it."""
    if not name.startswith(PREFIX):
        return Path(name).expanduser()
    match = _FILE.fullmatch(name.removeprefix(PREFIX))
    if match is None:
        raise InvalidModel(f"{name} is not hub:OWNER/NAME/FILE[@REVISION]")
    path = _fetch(name, match, [match["file"]]) / match["file"]
    if not path.is_file():
        raise InvalidModel(f"{name}: the hub's {match['repo']} has no such file")
    return path


def _fetch(name: str, match: re.Match[str], patterns: list[str]) -> Path:
    """Fetch files into the hub's cache, with every way in which it fails told in one sentence."""
    repo = match["repo"]
    mend = f"give a folder, or run `hf download {repo}` where the hub can be reached"
    try:
        return Path(snapshot_download(repo, revision=match["revision"], allow_patterns=patterns))
    except GatedRepoError as error:
        raise InvalidModel(
            f"{name}: the hub gives {repo} only to those who accepted its licence; accept it on "
            f"its page and run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise InvalidModel(
            f"{name} is not a folder here, and the hub has no model {repo} (or keeps it private: "
            "`hf auth login`); check the name, or give a folder"
        ) from error
    except RevisionNotFoundError as error:
        raise InvalidModel(f"{name}: the hub's {repo} has no such revision") from error
    except LocalEntryNotFoundError as error:
        raise InvalidModel(
            f"{name} is not a folder here nor in the hub's cache, and the hub cannot be reached; "
            f"{mend}"
        ) from error
    except HFValidationError as error:
        raise InvalidModel(f"{name} is neither a folder nor a name that the hub allows") from error
    except Exception as error:  # of the hub's client, its HTTP library or its downloader
        told = one_line(error, 200)
        raise InvalidModel(f"{name} cannot be fetched from the hub ({told}); {mend}") from error

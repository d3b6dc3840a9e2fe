"""What sees pictures of the world: Inception for FID, open_clip for the CLIP score.

Their weights are of others and are not shipped; they are read from a path, or brought by their own
libraries when asked for by name.
"""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError

from sidestep.errors import BackendUnavailable, InvalidData
from sidestep.files import sha256

try:
    import open_clip
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import (
        URL_INCEPTION_V3,
        FeatureExtractorInceptionV3,
    )
except ImportError as missing:
    raise BackendUnavailable(missing.name or "open_clip", "eval") from missing

CLIP_MODEL, CLIP_WEIGHTS = "ViT-g-14", "laion2b_s12b_b42k"  # the paper's
FEATURES = 2048
# What torch, safetensors and open_clip raise for an empty file, one that is cut, or another's.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    StopIteration,
    pickle.UnpicklingError,
    SafetensorError,
)

Features = NDArray[np.float32]


class Inception:
    """The Inception-v3 of FID, with the weights of its TensorFlow original."""

    def __init__(self, weights: Path | None = None, *, device: str = "cpu") -> None:
        """Read `weights`, or torch-fidelity's own after downloading them once.

        Raises InvalidData for a file that is missing, damaged or holds something else.
        """
        path = weights or _download()
        try:
            torch.load(path, weights_only=True)  # torch-fidelity would run what a pickle says
            network = FeatureExtractorInceptionV3(
                "inception-v3-compat", [str(FEATURES)], feature_extractor_weights_path=str(path)
            )
        except _UNREADABLE as error:
            mend = (
                "give the file of" if weights else "delete it, or give with --inception the file of"
            )
            raise InvalidData(
                f"{path} does not hold Inception's weights ({_told_error(error)}); {mend} "
                f"{URL_INCEPTION_V3}"
            ) from error
        self._network, self._device = network.to(device), device
        self.identity = f"inception:{_told_file(path)}"

    @torch.inference_mode()
    def see(self, pictures: NDArray[np.uint8]) -> Features:
        """Map pictures [B, H, W, 3] to pooled features [B, 2048]."""
        rows = torch.from_numpy(pictures).movedim(-1, 1).to(self._device)
        features: Features = self._network(rows)[0].float().cpu().numpy()
        return features


class OpenClip:
    """Any dual encoder of open_clip; features are unit vectors."""

    def __init__(
        self, model: str = CLIP_MODEL, weights: str = CLIP_WEIGHTS, *, device: str = "cpu"
    ) -> None:
        """Open a model by its open_clip name; `weights` is a tag, which is downloaded, or a file.

        Raises InvalidData naming what open_clip knows instead, or the weights that could not be
        downloaded or read.
        """
        if model not in open_clip.list_models():
            near = difflib.get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.3)
            raise InvalidData(
                f"open_clip has no model {model!r}; did you mean {' or '.join(near) or 'another'}?"
            )
        tags = open_clip.list_pretrained_tags_by_model(model)
        if weights not in tags and not Path(weights).is_file():
            raise InvalidData(
                f"{weights!r} is neither a file nor one of open_clip's weights of {model}: "
                f"{', '.join(tags) or 'none'}"
            )
        file = _download_tag(model, weights) if weights in tags else weights
        try:
            network, _, self._prepare = open_clip.create_model_and_transforms(
                model, pretrained=weights
            )
        except _UNREADABLE as error:
            mend = (
                "copy them again" if weights not in tags else "delete them, to download them again"
            )
            raise InvalidData(
                f"{file} does not hold weights of {model} ({_told_error(error)}); {mend}"
            ) from error
        self._network = network.to(device)
        self._network.eval()
        self._tokenize, self._device = open_clip.get_tokenizer(model), device
        named = weights if weights in tags else _told_file(Path(weights))
        self.identity = f"open_clip:{model}:{named}"

    @torch.inference_mode()
    def see(self, pictures: NDArray[np.uint8]) -> Features:
        """Map pictures [B, H, W, 3] to [B, D]."""
        rows = torch.stack([self._prepare(Image.fromarray(one)) for one in pictures])
        return _numbers(self._network.encode_image(rows.to(self._device), normalize=True))

    @torch.inference_mode()
    def read(self, texts: Sequence[str]) -> Features:
        """Map texts to [B, D]."""
        tokens = self._tokenize(list(texts)).to(self._device)
        return _numbers(self._network.encode_text(tokens, normalize=True))


def _told_file(path: Path) -> str:
    """Name a file and what it holds, since open_clip's weights all have one name."""
    return f"{path.name}:{sha256(path)[:16]}"


def _told_error(error: BaseException) -> str:
    """Tell a foreign error's kind, and its first line if it has one."""
    lines = str(error).splitlines()
    return ": ".join([type(error).__name__, *lines[:1]])[:200]


def _numbers(rows: Any) -> Features:
    numbers: Features = rows.float().cpu().numpy()
    return numbers


def _download_tag(model: str, tag: str) -> str:
    """Bring open_clip's own weights to its cache unless they are there; returns their file."""
    cfg = open_clip.get_pretrained_cfg(model, tag)
    try:
        file: str = open_clip.download_pretrained(cfg)
    except (OSError, RuntimeError) as error:
        hub = cfg.get("hf_hub", "").rstrip("/")
        source = f"https://huggingface.co/{hub}" if hub else cfg.get("url")
        raise InvalidData(
            f"open_clip's weights {tag!r} of {model} could not be downloaded "
            f"({_told_error(error)}); bring the file from {source} and name it with --clip-weights"
        ) from error
    return file


def _download() -> Path:
    """Bring Inception's weights to torch's own cache unless they are there."""
    name = URL_INCEPTION_V3.rsplit("/", 1)[1]
    path: Path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = Path(name).stem.rsplit("-", 1)[1]
        try:
            torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=digest)
        except (OSError, RuntimeError) as error:
            raise InvalidData(
                f"Inception's weights could not be downloaded ({error}); bring {URL_INCEPTION_V3} "
                "here and name it with --inception"
            ) from error
    return path

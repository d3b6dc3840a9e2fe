"""The judge: a small CLIP that knows emoji by picture and by name, shipped in `models/judge`.

open_clip_config.json, open_clip_model.safetensors   what open_clip opens as `local-dir:FOLDER`
tokenizer/                                           its words, in CLIP's layout
reference.safetensors                                the features of every real picture, and of some
                                                     blurred
judge.json                                           how it was trained and how well it judges

N pictures or texts  D features
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sidestep.errors import BackendUnavailable, InvalidModel
from sidestep.files import atomic_path
from sidestep.model_folder import embedded
from sidestep.tokenizer import PromptTokenizer

try:
    import open_clip
    import torch
except ImportError as missing:
    raise BackendUnavailable(missing.name or "open_clip", "eval") from missing

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
REFERENCE, TOLD = "reference.safetensors", "judge.json"
BATCH = 64

Features = NDArray[np.float32]


class Judge:
    """Maps pictures and texts to unit vectors of one space; nearer means that they fit better."""

    def __init__(self, network: Any, tokenizer: PromptTokenizer, *, size_px: int) -> None:
        """Take an open_clip dual encoder in evaluation mode and its tokenizer."""
        self.network = network
        self.tokenizer = tokenizer
        self.size_px = size_px

    @classmethod
    def load(cls, path: Path | None = None) -> Judge:
        """Open a judge's folder (default: the one shipped).

        Raises InvalidModel naming what is missing or damaged.
        """
        path = path or find_judge()
        config = read_json(path / CONFIG)
        try:
            network = open_clip.create_model(f"local-dir:{path}", require_pretrained=True)
            text, vision = (config["model_cfg"][part] for part in ("text_cfg", "vision_cfg"))
            tokenizer = PromptTokenizer(path / "tokenizer", length=text["context_length"])
            size_px = int(vision["image_size"])
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise InvalidModel(f"{path} cannot be opened as a judge ({error})") from error
        return cls(network.eval().requires_grad_(False), tokenizer, size_px=size_px)

    def see(self, pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> Features:
        """Map pictures uint8 [H, W, 3], shrunk to the judge's size by area, to [N, D]."""
        tensor = torch.from_numpy(shrink(pictures, self.size_px)).movedim(-1, 1).float() / 255
        return self._encode(self.network.encode_image, tensor)

    def read(self, texts: Sequence[str]) -> Features:
        """Map texts to [N, D]."""
        return self._encode(self.network.encode_text, torch.from_numpy(self.tokenizer(texts)))

    @torch.inference_mode()
    def _encode(self, encode: Any, rows: torch.Tensor) -> Features:
        parts = [encode(part, normalize=True) for part in rows.split(BATCH)]
        features: Features = torch.cat(parts).numpy()
        return features


@dataclass(frozen=True)
class Reference:
    """The real pictures as the judge sees them: features [N, D], names and styles.

    test: bool [N]; the pictures that the judge was not trained on
    blurred: [M, D]; of the first M of half A (`bench.quality.protocol.halves`), blurred a little;
        None in folders from before they were kept
    """

    features: Features
    names: list[str]
    styles: list[str]
    test: NDArray[np.bool_]
    blurred: Features | None = None

    @classmethod
    def load(cls, path: Path | None = None) -> Reference:
        """Read it from a judge's folder; raises InvalidModel if it is missing or damaged."""
        file = (path or find_judge()) / REFERENCE
        try:
            with safe_open(file, framework="numpy") as opened:
                told = json.loads(opened.metadata()["pictures"])
                features = opened.get_tensor("features").astype(np.float32)
                test = opened.get_tensor("test").astype(bool)
                blurred = None
                if "blurred" in opened.keys():  # noqa: SIM118  (it is no dict)
                    blurred = opened.get_tensor("blurred").astype(np.float32)
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InvalidModel(f"{file} cannot be read ({error}); copy the judge again") from error
        names, styles = [name for name, _ in told], [style for _, style in told]
        return cls(features, names, styles, test, blurred)

    def save(self, file: Path) -> None:
        """Write it in fp16, which the judge's own pictures survive to three digits."""
        told = json.dumps(list(zip(self.names, self.styles, strict=True)))
        tensors = {"features": self.features.astype(np.float16), "test": self.test}
        if self.blurred is not None:
            tensors["blurred"] = self.blurred.astype(np.float16)
        with atomic_path(file) as temporary:
            save_file(tensors, temporary, metadata={"pictures": told})


def find_judge() -> Path:
    """Return the judge's folder, `models/judge` beside or inside the code."""
    if found := embedded("judge", CONFIG):
        return found
    raise InvalidModel("no judge found; give its folder with --judge")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises InvalidModel naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise InvalidModel(f"{path} must be a JSON object")
    return value


def shrink(
    pictures: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], size_px: int
) -> NDArray[np.uint8]:
    """Bring pictures uint8 [H, W, 3] to [N, size_px, size_px, 3], by area."""
    return np.stack([_resized(picture, size_px) for picture in pictures])


def _resized(picture: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    if picture.shape[:2] == (size_px, size_px):
        return picture
    image = Image.fromarray(picture).resize((size_px, size_px), Image.Resampling.BOX)
    return np.asarray(image)

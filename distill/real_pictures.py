"""Real pictures for the adversarial term: encoded once, by the teacher's autoencoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from distill import emoji_data
from distill.autoencoder import encode_all
from distill.draws import generator
from distill.emoji_sources import caption
from distill.folders import weights_hash
from distill.held_out import read_prompts
from distill.mapped import map_tensor
from distill.processes import current
from sidestep.errors import InvalidTraining
from sidestep.files import atomic_path

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
# Encoded at once, at most: of Stable Diffusion's feature maps one of 512 pixels takes 134 MB.
BATCH, BATCH_PX = 64, 4 * 512**2


class RealLatents:
    """Scaled latents [N, 4, h, w] of real pictures."""

    def __init__(self, latents: Tensor, *, seed: int, device: torch.device) -> None:
        """Take the latents; `device` is where samples go."""
        self._latents, self._seed, self._device = latents, seed, device

    def __len__(self) -> int:
        return len(self._latents)

    @property
    def identity(self) -> str:
        """Hash the latents; 16 hexadecimal digits."""
        return _hash(self._latents)

    def draw(self, step: int, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Draw latents and noise [B, 4, h, w], each from (seed, step, its index) alone."""
        latents, noise = [], []
        for index in indices:
            source = generator(self._seed, "real", step, index)
            chosen = int(torch.randint(len(self._latents), (), generator=source))
            latents.append(self._latents[chosen])
            noise.append(torch.randn(self._latents.shape[1:], generator=source))
        return torch.stack(latents).to(self._device), torch.stack(noise).to(self._device)


def encode_real(
    folder: Path, vae: AutoencoderKL, size: tuple[int, int], out: Path, *, device: torch.device
) -> Tensor:
    """Encode all pictures of a folder, or of an emoji data set, into a file in `out`; map that.

    size: (H, W) in pixels; pictures are cropped at the centre and resized to it. What was encoded
    before by the same autoencoder is not encoded again. Returns scaled latents [N, 4, h, w].
    Raises InvalidTraining for a folder without pictures, or naming one that is damaged.
    """
    pictures = Pictures(folder, size)
    path = out / f"real-{pictures.key}-{_key(vae)}.safetensors"
    if current().writes and not path.exists():
        latents = []
        batch = batch_of(size)
        for start in tqdm(range(0, len(pictures), batch), "real pictures", unit="batch"):
            rows = torch.from_numpy(pictures.read(slice(start, start + batch)))
            latents.append(encode_all(vae.to(device), rows, device=str(device)))
        scaled = torch.cat(latents) * vae.config.scaling_factor
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            save_file({"latents": scaled.contiguous()}, temporary)
    current().wait()
    return map_tensor(path, "latents")


def _key(vae: AutoencoderKL) -> str:
    """Name what latents depend on besides their pictures; 16 hexadecimal digits."""
    told = f"{weights_hash(vae)} {vae.config.scaling_factor}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def is_encoded_in(out: Path, folder: Path, size: tuple[int, int], latents: str | None) -> bool:
    """Tell whether `out` holds latents of this hash that are of a folder's pictures.

    What was encoded by another version or autoencoder counts too, as the hash is what a run keeps;
    where all latents were deleted nothing can be told, and that is taken for a yes.
    """
    start = f"real-{Pictures(folder, size).key}"
    files = list(out.glob("real-*.safetensors"))
    known = [map_tensor(path, "latents") for path in files if path.name.startswith(start)]
    return not files or any(_hash(one) == latents for one in known)


def batch_of(size: tuple[int, int]) -> int:
    """Return how many pictures of (H, W) pixels are encoded at once."""
    return max(1, min(BATCH, BATCH_PX // (size[0] * size[1])))


def _hash(latents: Tensor) -> str:
    return hashlib.sha256(latents.numpy().tobytes()).hexdigest()[:16]


class Pictures:
    """The pictures of a folder: files, or the arrays of an emoji data set, which is small.

    Of the latter those whose names are held out are left out, as everywhere in training.
    key: the name of these pictures at this size, 16 hexadecimal digits
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        if not folder.is_dir():
            raise InvalidTraining(f"--real-images {folder} is not a folder")
        self._size = size
        found = (f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
        self._files = sorted(f for f in found if f.is_file())  # and no link to what has gone
        self._arrays = np.zeros((0, *size, 3), np.uint8)
        if not self._files and list(folder.glob("*.safetensors")):
            sets = emoji_data.load(folder, size_px=size[0])
            held = set(read_prompts())
            seen = [[caption(name) not in held for name in part.names] for part in sets]
            self._arrays = np.concatenate(
                [part.pictures[rows] for part, rows in zip(sets, seen, strict=True)]
            )
        if not len(self):
            raise InvalidTraining(
                f"--real-images {folder} holds no pictures ({', '.join(SUFFIXES)})"
            )
        told = [f"{file.relative_to(folder)}:{file.stat().st_size}" for file in self._files]
        told += [str(size), hashlib.sha256(self._arrays.tobytes()).hexdigest()]
        self.key = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._files) or len(self._arrays)

    def read(self, rows: slice) -> NDArray[np.uint8]:
        """Read pictures, uint8 [B, H, W, 3]."""
        if not self._files:
            return self._arrays[rows]
        return np.stack([self._file(file) for file in self._files[rows]])

    def _file(self, path: Path) -> NDArray[np.uint8]:
        height, width = self._size
        try:
            with Image.open(path) as image:
                rgba = image.convert("RGBA")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InvalidTraining(f"{path} is not a picture ({error}); take it out") from error
        fitted = ImageOps.fit(rgba, (width, height), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", fitted.size, "white")
        return np.asarray(Image.alpha_composite(white, fitted).convert("RGB"))

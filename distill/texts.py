"""The training prompts' embeddings: encoded once, by the teacher's frozen text encoder.

Shards lie in `folder/KEY/`, where KEY hashes the text encoder and the number format, and are named
by the hash of their prompts: a run that goes on finds them. They are mapped into memory, not read,
so that more embeddings than memory can be trained on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from distill.mapped import map_tensor
from distill.processes import current
from sidestep.errors import InvalidTraining
from sidestep.files import atomic_path

SHARD = 4096  # prompts
Encode = Callable[[Sequence[str]], Tensor]  # prompts -> [B, L, D]


class Texts(Protocol):
    """Embeddings of the training prompts, by their index."""

    null_text: Tensor  # [1, L, D], the embedding of ''

    def __len__(self) -> int: ...

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Return embeddings [B, L, D] on the device that trains."""
        ...


class EncodedTexts:
    """Embeddings in memory, or mapped into it: parts [P_i, L, D], all but the last of one size."""

    def __init__(self, parts: Sequence[Tensor], null_text: Tensor) -> None:
        self.null_text = null_text
        self._parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Return embeddings [B, L, D] on the device of `null_text`."""
        size = len(self._parts[0])
        picked = torch.stack([self._parts[index // size][index % size] for index in indices])
        return picked.to(self.null_text.device, non_blocking=True)


class TextsOnDemand:
    """Prompts that are encoded each time they are drawn: for more than a disk holds."""

    def __init__(self, prompts: Sequence[str], encode: Encode, null_text: Tensor) -> None:
        self.null_text = null_text
        self._prompts, self._encode = prompts, encode

    def __len__(self) -> int:
        return len(self._prompts)

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Encode some prompts, [B, L, D]."""
        return self._encode([self._prompts[index] for index in indices])


def hash_encoder(encoder: nn.Module, tokenizer: Path, dtype: torch.dtype) -> str:
    """Hash what an embedding depends on besides its prompt; 16 hexadecimal digits."""
    digest = hashlib.sha256(str(dtype).encode())
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    for path in sorted(path for path in tokenizer.iterdir() if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_texts(prompts: Sequence[str], encode: Encode, folder: Path, *, most_gib: float) -> Texts:
    """Encode prompts into shards in `folder`, or on demand if they need more than `most_gib`.

    Processes share the work. What was written before is not encoded again.
    Raises InvalidTraining if the disk has not enough room.
    """
    null_text = encode([""])
    size = null_text.numel() * null_text.element_size() * len(prompts)
    if size > most_gib * 2**30:
        return TextsOnDemand(prompts, encode, null_text)
    shards = [prompts[start : start + SHARD] for start in range(0, len(prompts), SHARD)]
    paths = [folder / f"{_name(shard)}.safetensors" for shard in shards]
    _check_room(folder, size * sum(not path.exists() for path in paths) // len(paths))
    processes = current()
    mine = list(zip(shards, paths, strict=True))[processes.rank :: processes.count]
    for shard, path in tqdm(mine, "texts", unit="shard", disable=not processes.writes):
        if not path.exists():
            parts = [encode(shard[start : start + 256]) for start in range(0, len(shard), 256)]
            with atomic_path(path) as temporary:
                save_file({"texts": torch.cat(parts).cpu()}, temporary)
    processes.wait()
    return EncodedTexts([map_tensor(path, "texts") for path in paths], null_text)


def _name(shard: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(shard)).encode()).hexdigest()[:16]


def _check_room(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InvalidTraining(
            f"{folder} has {free / 2**30:.1f} GiB free and the prompts' embeddings need "
            f"{needed / 2**30:.1f}; choose --text-cache-gib 0 to encode them as they are drawn"
        )

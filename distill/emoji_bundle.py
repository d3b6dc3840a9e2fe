"""All icons and words of the embedded model in one file that travels to a GPU machine.

Pictures are lossless WebP with opacity, one after another in a tensor of bytes; names, synonyms
and what the file was made from are its metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from distill.emoji_data import (
    EmojiSet,
    fetch,
    load,
    read_json,
    read_subjects,
    render,
    svg_of,
    visible_subjects,
)
from distill.emoji_sources import KEYWORDS, SOURCES
from distill.emoji_words import Words, read_words
from sidestep.errors import InvalidData
from sidestep.files import atomic_path


@dataclass(frozen=True)
class Icons:
    """The icons of one style: uint8 [N, size, size, 4] with opacity, and their names."""

    style: str
    names: list[str]
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class Bundle:
    """All styles and what their icons are called."""

    icons: list[Icons]
    words: Words


def build_bundle(packages: Path, path: Path, *, size_px: int = 128) -> Path:
    """Fetch what is missing in `packages`, render every icon and write one file.

    Raises InvalidData if a package does not match its checksum.
    """
    archives = {source: fetch(source, packages) for source in SOURCES}
    keywords = read_json(fetch(KEYWORDS, packages), "en/data.json")
    subjects = frozenset().union(*map(read_subjects, archives.values()))
    names: dict[str, list[str]] = {}
    blobs: list[bytes] = []
    for source, archive in archives.items():
        icons = read_json(archive, "icons.json")
        names[source.style] = visible_subjects(icons, subjects)
        svgs = [svg_of(icons, name) for name in names[source.style]]
        with ProcessPoolExecutor() as pool:
            rows = pool.map(_encode, svgs, [size_px] * len(svgs), chunksize=16)
            blobs += tqdm(rows, source.style, total=len(svgs), unit="picture")
    words = read_words((name for part in names.values() for name in part), keywords)
    metadata = {
        "size_px": str(size_px),
        "names": json.dumps(names),
        "synonyms": json.dumps(dict(words.synonyms), ensure_ascii=False),
        "packages": ", ".join(f"{s.package}@{s.version}" for s in (*SOURCES, KEYWORDS)),
    }
    data = np.frombuffer(b"".join(blobs), np.uint8)
    ends = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
    with atomic_path(path) as temporary:
        save_file({"webp": data, "ends": ends}, temporary, metadata=metadata)
    return path


def is_bundle(data: Path) -> bool:
    """Whether a data set is one file, as its name tells where nothing is there, or a folder."""
    return data.is_file() or (data.suffix == ".safetensors" and not data.is_dir())


def existing_bundle(path: Path) -> Path:
    """Return `path`; raises InvalidData if nothing is there."""
    if not path.is_file():
        raise InvalidData(f"{path} is missing; run: sidestep data bundle --out {path}")
    return path


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise InvalidData if a bundle is missing, or turns out to be damaged within the block."""
    existing_bundle(path)
    try:
        yield
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InvalidData(f"{path} is damaged ({error}); delete it and build it again") from error


def bundle_size(path: Path) -> int:
    """Read how many pixels wide a bundle's icons are; raises InvalidData as `read_bundle`."""
    with _reading(path), safe_open(path, framework="numpy") as file:
        return int((file.metadata() or {})["size_px"])


def read_bundle(path: Path) -> Bundle:
    """Decode a bundle, on every core; raises InvalidData if it is missing or damaged."""
    with _reading(path):
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = json.loads(metadata["names"])
            synonyms = json.loads(metadata["synonyms"])
            data, ends = file.get_tensor("webp").tobytes(), file.get_tensor("ends").tolist()
        starts = [0, *ends[:-1]]
        with ThreadPoolExecutor() as pool:
            blobs = (data[start:end] for start, end in zip(starts, ends, strict=True))
            pictures = list(pool.map(_decode, blobs))
        icons, start = [], 0
        for style, part in names.items():
            icons.append(Icons(style, part, np.stack(pictures[start : start + len(part)])))
            start += len(part)
    every = tuple(sorted({name for part in names.values() for name in part}))
    return Bundle(icons, Words(every, synonyms))


def read_sets(data: Path, *, size_px: int) -> list[EmojiSet]:
    """Read a data set's icons on white: of a bundle, or of the folder of `sidestep data emoji`.

    Raises InvalidData if it is missing, or the bundle's icons have another size.
    """
    if not is_bundle(data):
        return load(data, size_px=size_px)
    sets = bundled_sets(read_bundle(data))
    if (found := sets[0].pictures.shape[1]) != size_px:
        raise InvalidData(f"{data} has icons of {found} px, not {size_px}")
    return sets


def bundled_sets(bundle: Bundle) -> list[EmojiSet]:
    """Put a bundle's icons on white."""
    sets = []
    for icons in bundle.icons:
        opacity = icons.pictures[..., 3:] / np.float32(255)
        page = icons.pictures[..., :3] * opacity + 255 * (1 - opacity)
        sets.append(EmojiSet(icons.style, icons.names, page.round().astype(np.uint8)))
    return sets


def _encode(svg: str, size_px: int) -> bytes:
    """Draw an SVG as lossless WebP; colours that nobody sees are cleared and cost nothing."""
    pixels = render(svg, size_px).copy()
    pixels[pixels[..., 3] == 0] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=80, method=4)
    return buffer.getvalue()


def _decode(webp: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGBA"))

"""Build the emoji data set: npm packages -> rendered pictures with captions.

    OUT/packages/*.tgz          as npm serves them, checked against `SOURCES`
    OUT/noto-64.safetensors     pictures uint8 [N, 64, 64, 3], their names in the metadata

Every finished file is kept, so that a stopped build goes on where it was.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Set
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from distill.emoji_sources import CATEGORIES, SOURCES, Source, kept_names
from sidestep.errors import BackendUnavailable, InvalidData
from sidestep.files import atomic_path, sha256


@dataclass(frozen=True)
class EmojiSet:
    """Pictures of one style: uint8 [N, size, size, 3] on white, and the N icon names."""

    style: str
    names: list[str]
    pictures: NDArray[np.uint8]


def build(out: Path, *, size_px: int = 64) -> list[EmojiSet]:
    """Fetch, render and store all four icon sets; return them.

    Raises InvalidData if a package does not match its checksum.
    """
    if not 16 <= size_px <= 512:
        raise InvalidData(f"--size is {size_px}; it must be between 16 and 512 pixels")
    try:
        return load(out, size_px=size_px)
    except InvalidData:
        archives = {source: fetch(source, out / "packages") for source in SOURCES}
        subjects = frozenset().union(*map(read_subjects, archives.values()))
        return [
            _build_set(source, archive, subjects, _shard(out, source, size_px))
            for source, archive in archives.items()
        ]


def load(folder: Path, *, size_px: int = 64) -> list[EmojiSet]:
    """Read a finished data set; raises InvalidData naming the missing or damaged file."""
    files = shards(folder, size_px=size_px)
    return [_read_set(source, file) for source, file in zip(SOURCES, files, strict=True)]


def shards(folder: Path, *, size_px: int) -> list[Path]:
    """Name the files that `load` reads; raises InvalidData for the first that is missing."""
    files = [_shard(folder, source, size_px) for source in SOURCES]
    if missing := next((file for file in files if not file.is_file()), None):
        raise InvalidData(
            f"{missing} is missing; run: sidestep data emoji --out {folder} --size {size_px}"
        )
    return files


def _shard(folder: Path, source: Source, size_px: int) -> Path:
    return folder / f"{source.style}-{size_px}.safetensors"


def _build_set(source: Source, archive: Path, subjects: Set[str], shard: Path) -> EmojiSet:
    if shard.exists():
        try:
            return _read_set(source, shard)
        except InvalidData:
            shard.unlink()  # damaged or from an older version: rendered again below
    size_px = int(shard.stem.rsplit("-", 1)[1])
    icons = read_json(archive, "icons.json")
    names = visible_subjects(icons, subjects)
    svgs = [svg_of(icons, name) for name in names]
    with ProcessPoolExecutor() as pool:
        rows = pool.map(_render, svgs, [size_px] * len(svgs), chunksize=32)
        pictures = np.stack(list(tqdm(rows, source.style, total=len(svgs), unit="picture")))
    with atomic_path(shard) as temporary:
        metadata = {"names": json.dumps(names), "package": _identity(source)}
        save_file({"pictures": pictures}, temporary, metadata=metadata)
    return EmojiSet(source.style, names, pictures)


def _read_set(source: Source, shard: Path) -> EmojiSet:
    try:
        with safe_open(shard, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("package") != _identity(source):
                raise InvalidData(f"{shard} was built from {metadata.get('package')}; delete it")
            return EmojiSet(
                source.style, json.loads(metadata["names"]), file.get_tensor("pictures")
            )
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise InvalidData(f"{shard} is damaged ({error}); delete it and build again") from error


def visible_subjects(icons: dict[str, Any], subjects: Set[str]) -> list[str]:
    """Choose the icons of one package that are learned, sorted."""
    return kept_names(
        (name for name, icon in icons["icons"].items() if not icon.get("hidden")), subjects
    )


def fetch(source: Source, folder: Path) -> Path:
    """Bring one package from npm unless it is here already; its checksum is checked either way."""
    archive = folder / source.archive
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            command = ["npm", "pack", "--silent", f"{source.package}@{source.version}"]
            try:
                subprocess.run(command, cwd=temporary, check=True, capture_output=True, text=True)
            except FileNotFoundError as error:
                message = (
                    f"npm is not installed; install Node.js or put {source.archive} in {folder}"
                )
                raise InvalidData(message) from error
            except subprocess.CalledProcessError as error:
                reason = error.stderr.strip().splitlines()
                raise InvalidData(
                    f"npm could not fetch {source.package}: {reason[-1] if reason else 'no reason'}"
                ) from error
            (Path(temporary) / source.archive).replace(archive)
    if (found := sha256(archive)) != source.sha256:
        raise InvalidData(f"{archive} has sha256 {found}, not {source.sha256}; delete it and retry")
    return archive


def _identity(source: Source) -> str:
    """Name what a shard depends on, so that another choice of icons is built again."""
    return f"{source.package}@{source.version}: {', '.join(CATEGORIES)}"


def read_json(archive: Path, name: str) -> Any:
    """Read a JSON file of a package; raises InvalidData if it is not there."""
    with tarfile.open(archive) as tar:
        try:
            member = tar.extractfile(f"package/{name}")
        except KeyError:
            member = None
        if member is None:
            raise InvalidData(f"{archive} holds no package/{name}")
        return json.load(member)


def read_subjects(archive: Path) -> frozenset[str]:
    """Read which icons are of our categories; a package may have no categories."""
    categories = read_json(archive, "metadata.json").get("categories", {})
    return frozenset(name for category in CATEGORIES for name in categories.get(category, ()))


def svg_of(icons: dict[str, Any], name: str) -> str:
    """Return an icon of a package as a whole SVG."""
    icon = icons["icons"][name]
    width, height = (icon.get(side, icons[side]) for side in ("width", "height"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    )


def _render(svg: str, size_px: int) -> NDArray[np.uint8]:
    """Draw an SVG on white; uint8 [size, size, 3]."""
    page = Image.new("RGBA", (size_px, size_px), "white")
    page.alpha_composite(Image.fromarray(render(svg, size_px)))
    return np.asarray(page.convert("RGB"))


def render(svg: str, size_px: int) -> NDArray[np.uint8]:
    """Draw an SVG on nothing; uint8 [size, size, 4], the last channel its opacity."""
    try:
        import resvg_py
    except ImportError as error:
        raise BackendUnavailable("resvg-py", "data") from error
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size_px, height=size_px)
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    size = (size_px, size_px)
    return np.asarray(drawn if drawn.size == size else drawn.resize(size))

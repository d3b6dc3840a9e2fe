"""Pixels <-> PNG, JPEG and WebP files that carry the recipe they were drawn from."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from sidestep.errors import InvalidRequest
from sidestep.requests import ImageFormat

MEDIA_TYPES: dict[ImageFormat, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
}
QUALITY = 90
_KEY = "sidestep"


@dataclass(frozen=True)
class Recipe:
    """Everything that draws a picture again; `quality` is that of its file, if it had one.

    licence: those of the weights and of what they learned from, as far as the model's card tells
    """

    prompt: str
    seed: int
    model: str
    weights: str
    engine: str
    version: str
    quality: int | None = None
    licence: str | None = None


def encode(
    pixels: NDArray[np.uint8],
    format: ImageFormat,
    recipe: Recipe | None = None,
    *,
    quality: int | None = None,
) -> bytes:
    """Encode [H, W, 3]; the recipe goes into PNG text or into JPEG's and WebP's EXIF.

    PNG and the recipe are exact. PNG uses zlib level 1, which costs half the time of level 6.
    """
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    text = json.dumps(asdict(recipe)) if recipe else None
    if format == "png":
        info = PngInfo()
        if text:
            info.add_text(_KEY, text)
        image.save(buffer, "PNG", compress_level=1, pnginfo=info)
        return buffer.getvalue()
    quality = QUALITY if quality is None else quality
    exif = Image.Exif()
    if text:
        exif[ExifTags.Base.ImageDescription] = f"{_KEY}: {text}"
    if format == "jpeg":
        image.save(buffer, "JPEG", quality=quality, exif=exif)
    else:
        image.save(buffer, "WEBP", quality=quality, method=0, exif=exif)
    return buffer.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or WebP file to [H, W, 3]; raises InvalidRequest for anything else."""
    with _open(data) as image:
        try:
            return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow's, for a cut or damaged file
            raise InvalidRequest(f"the file is damaged ({error})", field="file") from error


def read_format(data: bytes) -> ImageFormat:
    """Tell a file's format; raises InvalidRequest for other files."""
    with _open(data) as image:
        return next(name for name in MEDIA_TYPES if name.upper() == image.format)


def read_recipe(data: bytes) -> Recipe | None:
    """Read the recipe inside a picture file, but no pixels; None where it carries none."""
    with _open(data) as image:
        # Asked for the EXIF of a PNG, Pillow decodes it, because EXIF may follow the pixels there.
        text = image.info.get(_KEY) if image.format == "PNG" else _described(image)
    if text is None:
        return None
    try:
        return Recipe(**json.loads(text))
    except (TypeError, ValueError, RecursionError):  # the last for a million brackets
        return None


def _described(image: Image.Image) -> str | None:
    try:
        described = str(image.getexif().get(ExifTags.Base.ImageDescription, ""))
    except (OSError, ValueError, SyntaxError, struct.error):  # Pillow's, for damaged EXIF
        return None
    return described.removeprefix(f"{_KEY}: ") if described.startswith(_KEY) else None


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"])
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError) as error:
        raise InvalidRequest("the file is not a PNG, JPEG or WebP picture", field="file") from error

"""Prepare COCO-2014 val from one's own copy: crops of 256 pixels, and captions to draw.

OUT/pictures/000000.png, …   all pictures, the largest square of the centre, 256 pixels a side
OUT/captions.txt             30,000 captions, of as many pictures, drawn once for ever
OUT/begun.json               whose captions' pictures they are
OUT/prepared.json            the same, and how many, when all is done

Prompt i is drawn with seed i, so that a caption has one seed whoever draws it.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from sidestep.errors import InvalidData
from sidestep.files import atomic_path, sha256, write_bytes, write_json
from sidestep.series import has_numbered_pictures

SIZE_PX = 256
CAPTIONS = 30_000
PICTURES, TEXTS, PREPARED = "pictures", "captions.txt", "prepared.json"
BEGUN = "begun.json"
_DRAW_SEED = 2014


def prepare(captions: Path, images: Path, out: Path, *, count: int = CAPTIONS) -> Path:
    """Crop all pictures that the captions are of, and choose `count` captions; returns `out`.

    captions: `captions_val2014.json`; images: the folder `val2014`. What is there is kept, so that
    the same command goes on. Raises InvalidData for a missing or damaged file, for captions of
    other pictures, or for an `out` that was begun with other captions or holds other pictures.
    """
    files, texts = read_captions(captions)
    if absent := [name for name in files.values() if not (images / name).is_file()]:
        raise InvalidData(
            f"{images} lacks {len(absent):,} of the {len(files):,} pictures of {captions}, such as "
            f"{absent[0]}; give the folder that belongs to these captions"
        )
    if count > len(texts):
        raise InvalidData(
            f"{captions} has captions of {len(texts):,} pictures; --count {count:,} is too many"
        )
    source = {"format": 1, "captions": sha256(captions)}
    _claim(out, source)
    order = sorted(files)
    jobs = [(images / files[key], out / PICTURES / f"{n:06d}.png") for n, key in enumerate(order)]
    with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes without the interpreter's lock
        done = pool.map(lambda job: _crop_file(*job), jobs)
        for _ in tqdm(done, total=len(jobs), unit="picture", desc="COCO"):
            pass
    chosen = draw_captions(texts, count)
    write_bytes(out / TEXTS, ("\n".join(chosen) + "\n").encode())
    write_json(out / PREPARED, {**source, "pictures": len(jobs), "prompts": count})
    return out


def read_captions(path: Path) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Read COCO's JSON: the file of every picture, and its captions in their order.

    Raises InvalidData naming what is missing.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        files = {int(image["id"]): str(image["file_name"]) for image in values["images"]}
        notes = sorted(values["annotations"], key=lambda note: int(note["id"]))
        texts: dict[int, list[str]] = {}
        for note in notes:
            if caption := " ".join(str(note["caption"]).split()):
                texts.setdefault(int(note["image_id"]), []).append(caption)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidData(
            f"{path} is not COCO's captions ({type(error).__name__}: {error}); give "
            "annotations/captions_val2014.json"
        ) from error
    if strangers := sorted(set(texts) - set(files)):
        raise InvalidData(
            f"{path} has captions of {len(strangers):,} pictures that it does not list, such as "
            f"{strangers[0]}; copy it again"
        )
    if not texts or any(Path(name).name != name for name in files.values()):
        raise InvalidData(f"{path} lists no captions, or files outside of one folder")
    return files, texts


def draw_captions(texts: dict[int, list[str]], count: int) -> list[str]:
    """Draw `count` pictures without repeats, and of each one caption, always the same ones."""
    draw = np.random.Generator(np.random.PCG64(_DRAW_SEED))
    keys = sorted(texts)
    chosen = draw.permutation(len(keys))[:count]
    return [texts[keys[i]][int(draw.integers(len(texts[keys[i]])))] for i in chosen]


def crop(image: Image.Image, size_px: int = SIZE_PX) -> Image.Image:
    """Cut the largest square out of the centre and resize it (Lanczos)."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    return square.resize((size_px, size_px), Image.Resampling.LANCZOS)


def _claim(out: Path, source: dict[str, Any]) -> None:
    """Write down whose pictures will be numbered in `out`, or compare with what is told there."""
    told = [file for file in (out / BEGUN, out / PREPARED) if file.is_file()]
    if not told and has_numbered_pictures(out / PICTURES):
        raise InvalidData(
            f"{out / PICTURES} has numbered pictures and {out} no {BEGUN} that tells whose they "
            "are; choose another --out, or move them"
        )
    for file in told:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidData(f"{file} cannot be read ({error}); choose another --out") from error
        if not isinstance(found, dict) or found.get("captions") != source["captions"]:
            raise InvalidData(
                f"{out} holds pictures of other captions; choose another --out, or delete it"
            )
    write_json(out / BEGUN, source)


def _crop_file(source: Path, target: Path) -> None:
    if target.is_file():
        return
    try:
        with Image.open(source) as image:
            square = crop(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidData(f"{source} is not a picture ({error}); copy it again") from error
    with atomic_path(target) as temporary:
        square.save(temporary, "PNG")

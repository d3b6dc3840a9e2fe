"""Many pictures into a folder, for figures and evaluations: prompt i with seed i is picture i.

DIR/000000.png, …    numbered, since prompts and seeds may repeat; each carries its recipe
DIR/captions.txt     the prompts in order, which evaluation scripts ask for
DIR/series.json      what was asked for, so that another series is not mixed in

Under torchrun every process draws its share and writes it; they need not talk to each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from sidestep.errors import InvalidRequest
from sidestep.files import write_bytes, write_json
from sidestep.generator import Generator
from sidestep.requests import MAX_PROMPT, SEEDS

CAPTIONS, SERIES = "captions.txt", "series.json"
MOST = 1_000_000  # pictures of a series
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_NUMBERED = re.compile(r"\d{6,}\.png")


@dataclass(frozen=True)
class Series:
    """One prompt and one seed for each picture."""

    prompts: list[str]
    seeds: list[int]

    def __post_init__(self) -> None:
        """Check every prompt and seed once, before anything is drawn."""
        for number, prompt in enumerate(self.prompts, 1):
            if not prompt or len(prompt) > MAX_PROMPT:
                raise InvalidRequest(
                    f"prompt {number} has {len(prompt):,} characters; it must have 1 to "
                    f"{MAX_PROMPT:,}",
                    field="prompt",
                )

    @classmethod
    def of(cls, prompts: Sequence[str], seeds: Sequence[int]) -> Series:
        """Pair prompts with seeds; a single one of either goes with all of the other.

        Raises InvalidRequest if their numbers do not match.
        """
        count = max(len(prompts), len(seeds))
        if len({len(prompts), len(seeds)} - {1, count}) or not min(len(prompts), len(seeds)):
            raise InvalidRequest(
                f"{len(prompts):,} prompts and {len(seeds):,} seeds do not match; give one seed "
                "for each prompt, or a single one of either",
                field="seed",
            )
        return cls(list(prompts) * (count // len(prompts)), list(seeds) * (count // len(seeds)))

    def hash(self) -> str:
        """Hash prompts and seeds."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()


def parse_seeds(text: str) -> list[int]:
    """Read a list of seeds and ranges: `8,8,2,0-3` is 8, 8, 2, 0, 1, 2, 3.

    Raises InvalidRequest naming the part that is neither.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first = int(match[1]) if match else -1
        last = int(match[2] or match[1]) if match else -1
        if not 0 <= first <= last < SEEDS or last - first >= MOST:
            raise InvalidRequest(
                f"--seeds has {part.strip()!r}; give seeds from 0 to 2^64 - 1 and rising ranges of "
                f"at most {MOST:,}, such as 8,8,2,0-9",
                field="seed",
            )
        seeds.extend(range(first, last + 1))
    return seeds


def read_lines(path: Path) -> list[str]:
    """Read prompts, one per line, repeats and all; raises InvalidRequest where there are none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--prompts {path} cannot be read ({error})") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InvalidRequest(f"--prompts {path} has no prompts; write one per line")
    if empty := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise InvalidRequest(f"--prompts {path} line {empty[0]} is empty; write a prompt there")
    return [line.strip() for line in lines]


def draw_series(generator: Generator, series: Series, out: Path, *, batch: int = 16) -> int:
    """Draw what `out` does not hold yet and return how many pictures this process drew.

    Which pictures share a batch depends on their numbers alone: so neither a stop nor the number
    of processes changes a bit. Raises InvalidRequest if `out` holds another series, or pictures
    that no series tells of.
    """
    _claim(generator, series, out, batch)
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    blocks = [
        range(start, min(start + batch, len(series.seeds)))
        for start in range(0, len(series.seeds), batch)
    ][rank::count]
    drawn = 0
    with tqdm(total=sum(map(len, blocks)), unit="picture", disable=not is_first_process()) as bar:
        for block in blocks:
            if missing := [i for i in block if not picture_path(out, i).is_file()]:
                prompts = [series.prompts[i] for i in block]
                pictures = generator.draw(prompts, [series.seeds[i] for i in block])
                for index in missing:
                    pictures[index - block.start].save(picture_path(out, index))
                drawn += len(missing)
            bar.update(len(block))
    return drawn


def is_first_process() -> bool:
    """Tell whether this is the process that reports; without torchrun it is the only one."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_series(series: Series, out: Path) -> None:
    """Wait until the other processes have drawn theirs; torchrun ends all if one of them fails."""
    for index in range(len(series.seeds)):
        while not picture_path(out, index).is_file():
            time.sleep(0.5)


def picture_path(out: Path, index: int) -> Path:
    """Name the file of picture `index`."""
    return out / f"{index:06d}.png"


def has_numbered_pictures(folder: Path) -> bool:
    """Tell whether a folder, which need not exist, has pictures that are named as a series' are."""
    return folder.is_dir() and any(_NUMBERED.fullmatch(file.name) for file in folder.iterdir())


def use_own_gpu() -> None:
    """Show this process of torchrun its own GPU alone; call it before an engine is loaded."""
    local = os.environ.get("LOCAL_RANK")
    if local is None:
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else []
    if visible != "":
        own = devices[int(local) % len(devices)] if devices else local
        os.environ["CUDA_VISIBLE_DEVICES"] = own


def _claim(generator: Generator, series: Series, out: Path, batch: int) -> None:
    """Write what the folder is for, or compare with what is written there."""
    spec = generator.engine.spec
    asked = {
        "format": 1,
        "series": series.hash(),
        "pictures": len(series.seeds),
        "weights": spec.weights,
        "engine": spec.name,
        "batch": batch,
    }
    path = out / SERIES
    # Looked at first: what another process of this series draws comes after its series.json.
    has_pictures = has_numbered_pictures(out)
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidRequest(f"{path} is damaged ({error}); choose another --out") from error
        if changed := [key for key in asked if found.get(key) != asked[key]]:
            raise InvalidRequest(
                f"{out} holds another series, with other {', '.join(changed)}; choose another --out"
            )
        return
    if has_pictures:
        raise InvalidRequest(
            f"{out} has numbered pictures and no {SERIES} that tells whose they are; choose "
            "another --out, or move them"
        )
    write_bytes(out / CAPTIONS, ("\n".join(series.prompts) + "\n").encode())
    write_json(path, asked)

"""What a caller may ask for, with every bound written once, and what comes back."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from sidestep.errors import InvalidRequest
from sidestep.files import write_bytes

ImageFormat = Literal["png", "jpeg", "webp"]
FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)

MAX_PROMPT = 2_000
MAX_COUNT = 16
SEEDS = 2**64
DRAWN_SEEDS = 2**32
MAX_CLIENT_ID = 128
MAX_MODEL_NAME = 256
MAX_DEADLINE_MS = 600_000


@dataclass(frozen=True)
class Encoding:
    """How pixels become a file.

    quality: of JPEG and WebP, 0 to 100, 90 if absent; PNG is exact
    recipe: whether the file tells what it was drawn from
    """

    format: ImageFormat = "png"
    quality: int | None = None
    recipe: bool = True


class GenerateRequest(BaseModel):
    """A prompt to picture; image i of the answer uses seed + i."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT, description="What to draw.")]
    seed: Annotated[
        int | None,
        Field(ge=0, lt=SEEDS, description="Seed of the first picture; drawn below 2^32 if absent."),
    ] = None
    count: Annotated[
        int, Field(ge=1, le=MAX_COUNT, description="How many pictures, of consecutive seeds.")
    ] = 1
    format: Annotated[ImageFormat, Field(description="The pictures' encoding.")] = "png"
    model: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_MODEL_NAME,
            description="Which model draws, by its name; the service's first if absent.",
        ),
    ] = None
    quality: Annotated[
        int | None,
        Field(ge=0, le=100, description="Of JPEG and WebP, 90 if absent; PNG is exact."),
    ] = None
    deadline_ms: Annotated[
        int | None,
        Field(ge=1, le=MAX_DEADLINE_MS, description="Refuse at once what would take longer."),
    ] = None
    client_id: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_CLIENT_ID, description="Who asks; each has a turn."),
    ] = None
    supersede: Annotated[
        bool, Field(description="Replace this client's earlier request that supersedes too.")
    ] = False

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not self.prompt.strip():
            raise PydanticCustomError("blank", "prompt", {"field": "prompt"})
        if self.seed is not None and self.seed + self.count > SEEDS:
            raise PydanticCustomError("seed_count", "seed", {"field": "seed"})
        if self.supersede and self.client_id is None:
            raise PydanticCustomError("missing", "client_id", {"field": "client_id"})
        return self

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Check `values`; raises InvalidRequest in one sentence with the field and its bounds."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
            where = details["loc"][0] if details["loc"] else details.get("ctx", {}).get("field")
            name = str(where) if where is not None else None
            raise InvalidRequest(_sentence(name, details), field=name) from None

    def with_seed(self) -> Self:
        """Return this request with a seed, drawn below 2^32 where it had none."""
        if self.seed is not None:
            return self
        return self.model_copy(update={"seed": secrets.randbelow(DRAWN_SEEDS)})

    @property
    def encoding(self) -> Encoding:
        """How the pictures become files."""
        return Encoding(self.format, self.quality)

    @property
    def seeds(self) -> range:
        """The seed of every picture; draw it first with `with_seed`."""
        if self.seed is None:
            raise InvalidRequest("seed is missing; it must be drawn first", field="seed")
        return range(self.seed, self.seed + self.count)


BOUNDS = {  # of each field, as errors tell them
    "prompt": f"a text of 1 to {MAX_PROMPT:,} characters that is not blank",
    "seed": "a whole number from 0 to 2^64 - 1, with seed + count at most 2^64",
    "count": f"a whole number from 1 to {MAX_COUNT}",
    "format": "one of " + ", ".join(FORMATS),
    "model": f"a model's name of 1 to {MAX_MODEL_NAME} characters",
    "quality": "a whole number from 0 to 100",
    "deadline_ms": f"a whole number from 1 to {MAX_DEADLINE_MS:,}",
    "client_id": f"a text of 1 to {MAX_CLIENT_ID} characters; supersede needs one",
    "supersede": "true or false",
}


def _sentence(name: str | None, details: ErrorDetails) -> str:
    if name is None:  # a field's name that is no text, such as half a surrogate pair
        return f"the request's fields must be {', '.join(BOUNDS)} ({details['msg']})"
    if details["type"] == "extra_forbidden":
        return f"{name} is not a field; the fields are {', '.join(BOUNDS)}"
    if details["type"] == "missing":
        return f"{name} is missing; it must be {BOUNDS[name]}"
    return f"{name} must be {BOUNDS[name]}"


@dataclass(frozen=True)
class Timings:
    """Where the time of one picture went, in milliseconds.

    queue_ms: from the request to the engine's call; engine_ms: the call, for its whole batch;
    encode_ms: from the pixels to the file. One follows the other, so that they add up.
    """

    queue_ms: float = 0.0
    engine_ms: float = 0.0
    encode_ms: float = 0.0
    batch_size: int = 1

    @property
    def total_ms(self) -> float:
        """From the request to the file."""
        return self.queue_ms + self.engine_ms + self.encode_ms


def read_server_timing(header: str) -> dict[str, float]:
    """Read `queue;dur=1.5, batch;desc="2"` as {"queue": 1.5, "batch": 2.0}."""
    found = re.findall(r'([\w-]+)\s*;\s*(?:dur|desc)="?([\d.]+)"?', header)
    return {name: float(value) for name, value in found}


@dataclass(frozen=True)
class Picture:
    """One encoded picture, the seed that draws it again, and where its time went.

    dropped: the end of the prompt that the model did not read, because it was too long
    """

    data: bytes = field(repr=False)
    seed: int
    format: ImageFormat = "png"
    timings: Timings = Timings()
    dropped: str = ""

    def save(self, path: str | Path) -> Path:
        """Write the bytes to `path`, atomically; raises InvalidRequest if its suffix disagrees."""
        path = Path(path)
        if format_of(path) != self.format:
            raise InvalidRequest(
                f"{path.name} is not a name for {self.format} data; ask for the other format first",
                field="format",
            )
        write_bytes(path, self.data)
        return path


def format_of(path: Path) -> ImageFormat:
    """Return the format that a file name's suffix asks for; raises InvalidRequest for others."""
    suffix = path.suffix.lower().lstrip(".")
    for name in FORMATS:
        if suffix == name or (suffix, name) == ("jpg", "jpeg"):
            return name
    raise InvalidRequest(f"format must be {BOUNDS['format']}, not {suffix!r}", field="format")

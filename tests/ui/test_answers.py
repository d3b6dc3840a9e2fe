from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sidestep.errors import ServiceBusy, ServiceUnavailable
from sidestep.images import Recipe, encode
from sidestep.requests import GenerateRequest, Picture, Timings
from ui.answers import MAX_FILE, draw_answer, read_answer, seed_number

WANTED = {"prompt": "red apple", "seed": "7", "count": 1, "client_id": "tab"}
RECIPE = Recipe("red apple", 7, "emoji", "abc", "onnx-cpu", "0.1.0")
PIXELS = np.zeros((4, 4, 3), np.uint8)
DATA = encode(PIXELS, "png", RECIPE)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


async def generate(request: GenerateRequest) -> list[Picture]:
    assert request.supersede
    assert request.client_id == "tab"
    timings = Timings(1.0, 30.0, 2.0, 4)
    return [Picture(DATA, seed, "png", timings, dropped="tail") for seed in request.seeds]


async def told(values: dict[str, Any]) -> str:
    answer = await draw_answer(generate, {**WANTED, **values})
    assert set(answer) == {"error"}
    return str(answer["error"]["message"])


async def test_pictures_keep_their_exact_bytes_and_seeds() -> None:
    answer = await draw_answer(generate, {**WANTED, "seed": f" {2**64 - 4} ", "count": 4})
    pictures = answer["pictures"]
    assert [picture["seed"] for picture in pictures] == [str(2**64 - i) for i in (4, 3, 2, 1)]
    assert all(base64.b64decode(picture["data"]) == DATA for picture in pictures)
    assert pictures[0]["timings"] == asdict(Timings(1.0, 30.0, 2.0, 4))
    assert pictures[0]["dropped"] == "tail"
    assert (pictures[0]["weights"], pictures[0]["engine"]) == ("abc", "onnx-cpu")
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize("seed", ["", "-1", "1.5", "seven", str(2**64), "9" * 5000, "²", 7, None])
async def test_a_wrong_seed_is_a_sentence(seed: object) -> None:
    assert "Seed must be a whole number from 0 to 2^64 - 1" in await told({"seed": seed})


@pytest.mark.parametrize("prompt", ["", "  ", "novel " * 1000, None, 7, ["a"], "half \ud800"])
async def test_a_wrong_prompt_is_a_sentence(prompt: object) -> None:
    assert "Prompt must be a text of 1 to 2,000 characters" in await told({"prompt": prompt})


async def test_a_wrong_count_is_a_sentence() -> None:
    assert "Count must be a whole number from 1 to 16" in await told({"count": 17})


async def test_busy_says_how_long_and_when_to_ask_again() -> None:
    async def busy(request: GenerateRequest) -> list[Picture]:
        raise ServiceBusy("the queue of 4 pictures is full", retry_after_s=1.5, wait_s=2.25)

    async def gone(request: GenerateRequest) -> list[Picture]:
        raise ServiceUnavailable("the service is stopping; try again later")

    error = (await draw_answer(busy, WANTED))["error"]
    assert error["message"] == "The queue of 4 pictures is full. The predicted wait is 2.2 s."
    assert (error["code"], error["retry_after_s"]) == ("busy", 1.5)
    error = (await draw_answer(gone, WANTED))["error"]
    assert error["message"] == "The service is stopping; try again later."
    assert error["retry_after_s"] == 1.0


async def test_details_of_a_fault_stay_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: GenerateRequest) -> list[Picture]:
        raise RuntimeError("secret")

    answer = await draw_answer(broken, WANTED)
    assert "Something went wrong" in answer["error"]["message"]
    assert "retry_after_s" not in answer["error"]
    assert "secret" not in str(answer)
    assert "secret" in caplog.text


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
async def test_the_recipe_of_a_file_is_read(format: Any) -> None:
    answer = await read_answer(as_text(encode(PIXELS, format, RECIPE)))
    values = {name: str(value) for name, value in asdict(RECIPE).items() if value is not None}
    assert answer == {"recipe": values}


def as_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def forged(**changes: Any) -> bytes:
    return with_text(json.dumps({**asdict(RECIPE), **changes}))


def with_text(text: str) -> bytes:
    info = PngInfo()
    info.add_text("sidestep", text)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 60,000 pixels wide and high."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is not a PNG, JPEG or WebP picture."),
        (b"no picture", "The file is not a PNG, JPEG or WebP picture."),
        (bomb(), "The file is not a PNG, JPEG or WebP picture."),
        (encode(NOISE, "png")[:-500], "The picture carries no recipe that can be read."),
        (encode(PIXELS, "png"), "The picture carries no recipe that can be read."),
        (with_text("no json"), "The picture carries no recipe that can be read."),
        (with_text("[" * 100_000), "The picture carries no recipe that can be read."),
        (with_text('{"prompt": "only"}'), "The picture carries no recipe that can be read."),
        (forged(prompt=["a"]), "Prompt must be a text of 1 to 2,000 characters"),
        (forged(prompt="a" * 3000), "Prompt must be a text of 1 to 2,000 characters"),
        (forged(prompt="\ud800"), "Prompt must be a text of 1 to 2,000 characters"),
        (forged(seed="7"), "Seed must be a whole number"),
        (forged(seed=-1), "Seed must be a whole number"),
        (forged(seed=2**64), "Seed must be a whole number"),
    ],
)
async def test_a_forged_file_is_a_sentence(data: bytes, sentence: str) -> None:
    answer = await read_answer(as_text(data))
    assert set(answer) == {"error"}
    assert sentence in answer["error"]["message"]


@pytest.mark.parametrize("file", [None, 7, "not base64!", "é", "\ud800", "A" * (2 * MAX_FILE)])
async def test_what_is_no_file_is_a_sentence(file: object) -> None:
    answer = await read_answer(file)
    assert answer["error"]["code"] == "invalid_request"
    assert answer["error"]["message"].startswith("The file ")


async def test_names_in_a_forged_recipe_are_short_texts() -> None:
    data = forged(model=["x" * 5000], weights=None, engine="\ud800")
    recipe = (await read_answer(as_text(data)))["recipe"]
    assert all(isinstance(value, str) and len(value) <= 80 for value in recipe.values())
    json.dumps(recipe, ensure_ascii=False).encode()


def test_seed_numbers() -> None:
    assert seed_number("007") == 7

"""Prompts and pictures that a service does not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from serve.app import create_app
from serve.denied import DenyList
from serve.errors import PolicyViolation
from serve.policy import find_safety
from serve.settings import Settings
from sidestep.engines.fake import FakeEngine
from sidestep.errors import InvalidRequest
from sidestep.generator import Generator

RULES = """# a comment
violence: gun
violence: blood bath  # two words
Straße
brands: café noir
:
files: mp4
files: 3d_print
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "denied.txt"
    path.write_text(RULES, "utf-8")
    return path


@pytest.mark.parametrize(
    ("prompt", "rule"),
    [
        ("a GUN, pointed", "violence"),
        ("gun", "violence"),
        ("blood-bath", "violence"),
        ("Blood,  bath!", "violence"),
        ("blood_bath", "violence"),
        ("strasse am abend", "line 4"),
        ("a CAFE\u0301 noir", "brands"),
        ("a ｇｕｎ", "violence"),
        ("_gun_", "violence"),
        ("gun1", "violence"),
        ("a 2gun", "violence"),
        ("__blood__bath__2", "violence"),
        ("caf\u00e9 noir٣", "brands"),
        ("a.mp4", "files"),
        ("_mp4_", "files"),
        ("3D print", "files"),
    ],
)
def test_denied_prompts_name_their_rule_and_not_its_words(
    rules: Path, prompt: str, rule: str
) -> None:
    with pytest.raises(PolicyViolation, match=f"'{rule}'") as refused:
        DenyList(rules).check(prompt)
    assert refused.value.field == "prompt"
    assert "bath" not in str(refused.value)


@pytest.mark.parametrize(
    "prompt",
    [
        *("begun", "guns", "_guns_", "gune1", "blood", "bath of blood", "cafés noir", ""),
        *("mp44", "mp4s", "amp4", "13d print", "mp 4"),
    ],
)
def test_other_prompts_pass(rules: Path, prompt: str) -> None:
    DenyList(rules).check(prompt)


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"deny_list: .*nope"):
        DenyList(tmp_path / "nope")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(InvalidRequest, match=r"deny_list: .*latin"):
        DenyList(tmp_path / "latin")


class Bright(FakeEngine):
    """Draws white where the prompt is long."""

    def __call__(self, input_ids, noise):  # type: ignore[no-untyped-def]
        pixels = super().__call__(input_ids, noise) // 3
        last = input_ids[:, 6] != input_ids[:, 11]
        pixels[last] = 255
        return pixels


@pytest.fixture
def guarded(
    rules: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_generator: Callable[[FakeEngine], Generator],
    listen: Callable[[FastAPI], str],
) -> str:
    hook = tmp_path / "brightness.py"
    hook.write_text(
        "def check(pixels):\n"
        "    assert pixels.shape == (32, 32, 3)\n"
        "    return 'it is too bright' if pixels.mean() > 200 else None\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = Settings(deny_list=str(rules), safety="brightness:check")
    return listen(create_app(make_generator(Bright(tokens=12)), settings))


def test_every_route_denies(guarded: str) -> None:
    with httpx.Client(base_url=guarded, timeout=60) as http:
        ours = http.post("/generate", json={"prompt": "a gun"})
        address = http.get("/generate", params={"prompt": "a gun"})
        openai = http.post("/v1/images/generations", json={"prompt": "a gun"})
        assert (ours.status_code, address.status_code, openai.status_code) == (422, 422, 400)
        for answer in (ours, address, openai):
            assert answer.json()["error"]["code"] == "content_policy_violation"
            assert "'violence'" in answer.json()["error"]["message"]
        assert http.post("/generate", json={"prompt": "apple"}).status_code == 200
        text = http.get("/metrics").text
        assert 'sidestep_refused_total{model="fake",reason="policy"} 3.0' in text


def test_the_safety_hook_sees_pixels_before_anybody_else(guarded: str) -> None:
    with httpx.Client(base_url=guarded, timeout=60) as http:
        assert http.post("/generate", json={"prompt": "apple"}).status_code == 200
        long = "red apple blue heart cat face fire engine soccer ball"
        refused = http.post("/generate", json={"prompt": long, "count": 2})
        assert refused.status_code == 422
        assert refused.json()["error"]["message"].endswith("it is too bright")


@pytest.mark.parametrize("name", ["nope:check", "json:nope", "json", "json:__doc__", ":", ""])
def test_a_hook_that_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(InvalidRequest, match="safety: "):
        find_safety(name)

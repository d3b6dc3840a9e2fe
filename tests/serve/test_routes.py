"""The routes over real HTTP: a server on this machine with a fake engine."""

from __future__ import annotations

import base64
import email
import email.policy
import re
from email.message import EmailMessage
from urllib.parse import unquote

import httpx
import pytest

from sidestep.images import read_recipe

REST = ("model", "quality", "deadline_ms", "client_id", "supersede")


def test_one_picture_is_its_bytes(http: httpx.Client) -> None:
    body = {"prompt": "red apple", "seed": 7}
    first, second = http.post("/generate", json=body), http.post("/generate", json=body)
    assert first.status_code == 200
    assert first.headers["content-type"] == "image/png"
    assert first.headers["x-seed"] == "7"
    assert "x-prompt-dropped" not in first.headers
    assert first.content == second.content
    recipe = read_recipe(first.content)
    assert recipe is not None
    assert (recipe.prompt, recipe.seed) == ("red apple", 7)
    number = r"(\d+\.\d\d)"
    pattern = f"queue;dur={number}, engine;dur={number}, encode;dur={number}, total;dur={number}"
    found = re.fullmatch(f'{pattern}, batch;desc="1"', first.headers["server-timing"])
    assert found is not None
    *parts, total = map(float, found.groups())
    assert sum(parts) == pytest.approx(total, abs=0.03)
    assert first.elapsed.total_seconds() * 1e3 > total


@pytest.mark.parametrize(
    ("format", "start"), [("png", b"\x89PNG"), ("jpeg", b"\xff\xd8"), ("webp", b"RIFF")]
)
def test_formats(http: httpx.Client, format: str, start: bytes) -> None:
    answer = http.post("/generate", json={"prompt": "a", "format": format})
    assert answer.headers["content-type"] == f"image/{format}"
    assert answer.content.startswith(start)


def test_a_missing_seed_is_drawn_and_returned(http: httpx.Client) -> None:
    answer = http.post("/generate", json={"prompt": "red apple"})
    seed = int(answer.headers["x-seed"])
    assert 0 <= seed < 2**32
    again = http.post("/generate", json={"prompt": "red apple", "seed": seed})
    assert again.content == answer.content


def test_several_pictures_are_json_and_each_the_same_as_alone(http: httpx.Client) -> None:
    last = 2**64 - 1
    answer = http.post("/generate", json={"prompt": "octopus", "seed": last - 2, "count": 3})
    pictures = answer.json()["pictures"]
    assert [p["seed"] for p in pictures] == [last - 2, last - 1, last]
    assert [p["timings"]["batch_size"] for p in pictures] == [3, 3, 3]
    alone = http.post("/generate", json={"prompt": "octopus", "seed": last})
    assert base64.b64decode(pictures[2]["data"]) == alone.content


def test_a_cut_prompt_names_the_dropped_words(http: httpx.Client) -> None:
    prompt = "red apple " * 12 + "naïve 🍎"
    one = http.post("/generate", json={"prompt": prompt})
    assert unquote(one.headers["x-prompt-dropped"]).endswith("naïve 🍎")
    two = http.post("/generate", json={"prompt": prompt, "count": 2})
    assert two.json()["pictures"][1]["dropped"].endswith("naïve 🍎")
    long = http.post("/generate", json={"prompt": "🍎" * 2000})
    assert len(long.headers["x-prompt-dropped"]) < 4096


def test_a_quality_makes_the_file_smaller(http: httpx.Client) -> None:
    fine, coarse = (
        http.post(
            "/generate", json={"prompt": "a", "seed": 1, "format": "jpeg", "quality": quality}
        )
        for quality in (95, 10)
    )
    assert len(coarse.content) < len(fine.content)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_accept_chooses_the_format(http: httpx.Client, kind: str) -> None:
    body = {"prompt": "a", "seed": 7}
    answer = http.post("/generate", json=body, headers={"Accept": f"image/{kind}"})
    named = http.post("/generate", json={**body, "format": kind})
    assert answer.headers["content-type"] == f"image/{kind}"
    assert answer.content == named.content


def test_what_nobody_offers_is_not_acceptable(http: httpx.Client) -> None:
    answer = http.post("/generate", json={"prompt": "a"}, headers={"Accept": "image/gif"})
    assert answer.status_code == 406
    assert "image/png, image/jpeg, image/webp" in answer.json()["error"]["message"]


@pytest.mark.parametrize("count", [1, 3])
def test_several_pictures_as_multipart_are_the_json_s_bytes(http: httpx.Client, count: int) -> None:
    body = {"prompt": "octopus", "seed": 5, "count": count, "format": "jpeg"}
    answer = http.post("/generate", json=body, headers={"Accept": "multipart/mixed"})
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP).get_payload()
    json = http.post("/generate", json=body, headers={"Accept": "application/json"})
    pictures = json.json()["pictures"]
    assert len(parts) == len(pictures) == count
    for part, picture in zip(parts, pictures, strict=True):
        assert isinstance(part, EmailMessage)
        assert part.get_content_type() == "image/jpeg"
        assert part.get_payload(decode=True) == base64.b64decode(picture["data"])
        assert part["X-Seed"] == str(picture["seed"])
        assert "total;dur=" in str(part["Server-Timing"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("PUT", "/generate", 405, "method_not_allowed"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods_have_the_same_shape(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = http.request(method, path, follow_redirects=True)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code


def test_health_and_home(http: httpx.Client) -> None:
    assert http.get("/livez").status_code == 200
    assert http.get("/readyz").status_code == 200
    home = http.get("/")
    assert home.status_code == 307
    assert home.headers["location"] == "/ui/"


def test_the_document_is_true_and_asks_no_other_host(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/generate", "/models", "/models/reload", "/livez", "/readyz", "/metrics"),
        *("/v1/images/generations", "/v1/models", "/v1/models/{model}"),
    }
    generate = document["paths"]["/generate"]["post"]
    schema = generate["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"prompt", "seed", "count", "format", *REST}
    assert schema["required"] == ["prompt"]
    query = document["paths"]["/generate"]["get"]["parameters"]
    assert {one["name"] for one in query if one["in"] == "query"} == set(schema["properties"])
    assert set(generate["responses"]) == {
        "200",
        "400",
        "401",
        "404",
        "406",
        "408",
        "409",
        "413",
        "415",
        "422",
        "429",
        "431",
        "500",
        "503",
    }
    page = http.get("/docs")
    assert page.status_code == 200
    assert "http" not in re.sub(r"https?://127\.0\.0\.1:\d+", "", page.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert http.get(f"/{path}").status_code == 200


def test_routes_that_draw_keep_what_all_routes_have(http: httpx.Client) -> None:
    """They are found without FastAPI's router, which must not show."""
    assert http.get("/generate?prompt=a").status_code == 200
    assert http.put("/generate").status_code == 405
    http.post("/generate", json={"prompt": "a"})
    told = http.get("/metrics").text
    assert 'sidestep_http_requests_total{method="POST",route="/generate",status="200"}' in told

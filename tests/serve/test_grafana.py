"""The dashboard asks for metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana.json"
GPU_ONLY = {"sidestep_device_memory_bytes": {"device", "kind"}}
NAME = re.compile(r"\b(?:sidestep|process)_\w+")


def expressions() -> list[str]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return found + [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]


@pytest.fixture
def samples(http: httpx.Client) -> dict[str, set[str]]:
    """Every sample of a service that has drawn, refused and reloaded, with its labels."""
    http.post("/generate", json={"prompt": "a"})
    http.post("/generate", json={"prompt": "a"}, headers={"X-Padding": "x" * 20_000})
    http.post("/models/reload", json={})
    known: dict[str, set[str]] = defaultdict(set, {k: set(v) for k, v in GPU_ONLY.items()})
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            known[sample.name] |= set(sample.labels)
    return known


def test_every_query_asks_for_what_there_is(samples: dict[str, set[str]]) -> None:
    queries = expressions()
    assert len(queries) > 10
    for query in queries:
        names = NAME.findall(query)
        assert names, query
        labels: set[str] = set()
        for name in names:
            assert name in samples, f"{name} is no metric, in {query}"
            labels |= samples[name]
        wanted = set(re.findall(r"(\w+)\s*=~?\s*\"", query))
        for group in re.findall(r"by \(([^)]*)\)", query):
            wanted |= {label.strip() for label in group.split(",")}
        if "label_values" in query:
            wanted.add(query.rpartition(",")[2].strip(" )"))
        assert wanted <= labels, (query, wanted - labels)


def test_legends_use_labels_of_their_queries(samples: dict[str, set[str]]) -> None:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            labels = set().union(*(samples[name] for name in NAME.findall(target["expr"])))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, target


def test_every_metric_of_ours_is_shown(samples: dict[str, set[str]]) -> None:
    shown = {
        re.sub(r"_(bucket|sum|count|total)$", "", n) for q in expressions() for n in NAME.findall(q)
    }
    ours = {
        re.sub(r"_(bucket|sum|count|total|created)$", "", name)
        for name in samples
        if name.startswith("sidestep_")
    }
    assert ours <= shown, ours - shown

"""Pictures in HTTP caches: with a fixed seed a picture is a pure function of its address."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple

from sidestep import __version__
from sidestep.generator import Generator
from sidestep.requests import Encoding, GenerateRequest

# The same address gives another picture when another model is served, so caches ask again.
FRESH = "public, max-age=3600"
OWN = "private, max-age=3600"  # of a caller with a key: a shared cache asks nobody for one
NEVER = "no-store"


def entity_tag(request: GenerateRequest, encoding: Encoding, generator: Generator) -> str:
    """Name a picture's bytes before they are drawn: equal tags mean equal bytes."""
    drawn = (request.prompt, request.seed, *astuple(encoding))
    spec = generator.engine.spec
    by = (generator.name, spec.name, spec.weights, __version__, generator.licence)
    text = json.dumps([drawn, by])
    return f'"{hashlib.sha256(text.encode("ascii")).hexdigest()[:32]}"'


def matches(tag: str, if_none_match: str) -> bool:
    """Tell whether a caller has the answer of this tag already."""
    known = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return tag in known or "*" in known

"""Put an overlay's patches onto its base as kustomize does, as far as ours go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

# Lists whose entries are merged by this field; other lists are replaced.
KEYS = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}


def render(folder: Path) -> list[dict[str, Any]]:
    """Read a kustomization's resources, patched, with their images named."""
    told = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    found: list[dict[str, Any]] = []
    for name in told["resources"]:
        place = folder / name
        text = None if place.is_dir() else place.read_text("utf-8")
        found += render(place) if text is None else list(yaml.safe_load_all(text))
    for patch in told.get("patches", []):
        changes = yaml.safe_load((folder / patch["path"]).read_text("utf-8"))
        (place_of,) = [i for i, one in enumerate(found) if identity(one) == identity(changes)]
        found[place_of] = merge(found[place_of], changes)
    for image in told.get("images", []):
        for one in found:
            for container in containers(one):
                if container["image"].partition(":")[0] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return found


def identity(one: dict[str, Any]) -> tuple[str, str]:
    return one["kind"], one["metadata"]["name"]


def containers(one: dict[str, Any]) -> list[dict[str, Any]]:
    if one["kind"] != "Deployment":
        return []
    found: list[dict[str, Any]] = one["spec"]["template"]["spec"]["containers"]
    return found


def merge(base: Any, patch: Any, field: str = "") -> Any:
    """Merge a patch: mappings by field, the lists of KEYS by their entries' names."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {name: merge(base.get(name), value, name) for name, value in patch.items()}
    if isinstance(base, list) and field in KEYS:
        key = KEYS[field]
        old = {one[key]: one for one in base}
        new = {one[key]: merge(old.get(one[key]), one) for one in patch}
        return list((old | new).values())
    return patch

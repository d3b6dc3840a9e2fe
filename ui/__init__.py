"""The page: a function of `async generate(request)`; knows no server."""

from __future__ import annotations

from ui.app import ShownModel, build, mount

__all__ = ["ShownModel", "build", "mount"]

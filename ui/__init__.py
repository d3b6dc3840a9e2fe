"""The page: a function of `async generate(request)`; knows no server."""

from __future__ import annotations

from ui.app import build, mount

__all__ = ["build", "mount"]

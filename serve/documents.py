"""/docs: the OpenAPI document for people, without a request to another host."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles


def install(app: FastAPI) -> None:
    """Serve /docs with the Swagger UI that BentoML brings; nothing where it brings none."""
    folder = _swagger_ui()
    if folder is None:
        return

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{app.title} API",
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url="docs/static/favicon-light-32x32.png",
        )

    app.mount("/docs/static", StaticFiles(directory=folder))


def add(app: FastAPI, path: str, operations: dict[str, Any]) -> None:
    """Tell of a path in /openapi.json that another app answers beside this one."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        document = own()
        document["paths"][path] = operations
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def tell_keys(app: FastAPI) -> None:
    """Tell in /openapi.json how an API key is given."""
    own = app.openapi

    def openapi() -> dict[str, Any]:
        document = own()
        schemes = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document.setdefault("components", {})["securitySchemes"] = schemes
        document["security"] = [{name: []} for name in schemes]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _swagger_ui() -> Path | None:
    """Find the folder without importing BentoML."""
    spec = find_spec("bentoml")
    for root in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(root) / "_internal" / "server" / "static_content"
        if (folder / "swagger-ui-bundle.js").is_file():
            return folder
    return None

"""OpenAI's Images API: `POST /v1/images/generations` and `GET /v1/models`, in its own shapes.

What a one-step generator cannot do is refused by name, never ignored.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve import openapi_openai as openapi
from serve.body import header_values, read_object
from serve.errors import AnsweringRoute, Failure, write
from serve.listening import draw
from serve.models import ALIASES, Models
from serve.pictures import as_base64, slowest
from sidestep.errors import InvalidRequest
from sidestep.generator import Generator
from sidestep.requests import (
    MAX_MODEL_NAME,
    MAX_PROMPT,
    SEEDS,
    GenerateRequest,
    ImageFormat,
    Picture,
)

MAX_N = 10


class ImagesRequest(BaseModel):
    """The fields of OpenAI's request that can be granted, and our `seed`.

    Each description ends the sentence "FIELD must be ...".
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Annotated[
        str,
        Field(min_length=1, max_length=MAX_PROMPT, description=f"a text of 1 to {MAX_PROMPT:,}"),
    ]
    model: Annotated[
        str, Field(min_length=1, max_length=MAX_MODEL_NAME, description="a name of /v1/models")
    ] = ALIASES[0]
    n: Annotated[int, Field(ge=1, le=MAX_N, description=f"a whole number from 1 to {MAX_N}")] = 1
    size: Annotated[
        str, Field(pattern=r"^(auto|\d{1,5}x\d{1,5})$", description="auto or the model's own size")
    ] = "auto"
    response_format: Annotated[
        Literal["b64_json"], Field(description="b64_json; no files are kept for a url")
    ] = "b64_json"
    output_format: Annotated[ImageFormat, Field(description="png, jpeg or webp")] = "png"
    output_compression: Annotated[
        int | None, Field(ge=0, le=100, description="a whole number from 0 to 100, not with png")
    ] = None
    quality: Annotated[
        Literal["auto", "standard"], Field(description="auto or standard; there is one quality")
    ] = "auto"
    background: Annotated[
        Literal["auto", "opaque"], Field(description="auto or opaque; pictures have no alpha")
    ] = "auto"
    moderation: Annotated[Literal["auto"], Field(description="auto")] = "auto"
    user: Annotated[
        str | None, Field(min_length=1, max_length=128, description="a text of 1 to 128")
    ] = None
    stream: Annotated[bool, Field(description="true or false")] = False
    partial_images: Annotated[
        Literal[0], Field(description="0; one step has no pictures before the last")
    ] = 0
    seed: Annotated[
        int | None, Field(ge=0, lt=SEEDS, description="a whole number from 0 to 2^64 - 1")
    ] = None

    @classmethod
    def parse(cls, values: dict[str, Any], models: Models) -> ImagesRequest:
        """Check `values`, where null means absent; raises InvalidRequest naming the field."""
        try:
            request = cls.model_validate({k: v for k, v in values.items() if v is not None})
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
            if not details["loc"]:  # a field's name that is no text, such as half a surrogate pair
                message = f"the request's fields must be {', '.join(cls.model_fields)}"
                raise InvalidRequest(f"{message} ({details['msg']})") from None
            name = str(details["loc"][0])
            if details["type"] == "extra_forbidden":
                raise UnknownParameter(f"{name} is not supported here", field=name) from None
            described = cls.model_fields[name].description
            raise InvalidRequest(f"{name} must be {described}", field=name) from None
        generator = models.of(request.model).generator
        own = _size(generator)
        if request.size not in ("auto", own):
            message = f"size must be auto or {own}, the size of {generator.name}"
            raise InvalidRequest(message, field="size")
        if request.output_format == "png" and request.output_compression not in (None, 100):
            message = "output_compression must be 100 or absent with png, which is exact"
            raise InvalidRequest(message, field="output_compression")
        return request

    def ours(self, headers: dict[str, Any]) -> GenerateRequest:
        """Say the same in our own words; `headers` are the fields given as headers.

        They count where the body has none.
        """
        values = {
            "prompt": self.prompt,
            "count": self.n,
            "format": self.output_format,
            "model": self.model,
            "seed": self.seed,
            "quality": self.output_compression,
        }
        user = {} if self.user is None else {"client_id": self.user}
        return GenerateRequest.parse(headers | values | user)


class UnknownParameter(InvalidRequest):
    """A field of OpenAI's, or of nobody's, that is not granted."""

    code = "unknown_parameter"


def answer(failure: Failure) -> Response:
    """Write an error in OpenAI's shape; a field out of its bounds is a 400 there."""
    status = failure.status
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    kind = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    told = {"message": failure.message, "type": kind, "param": failure.field, "code": failure.code}
    return write(Failure(status, failure.code, "", headers=failure.headers), {"error": told})


class OpenAIRoute(AnsweringRoute):
    """A route whose every exception is answered in OpenAI's shape."""

    answer = staticmethod(answer)


def make_router(models: Models) -> APIRouter:
    """Make the routes that draw with `models`."""
    router = APIRouter(prefix="/v1", route_class=OpenAIRoute)
    began = int(time.time())

    @router.post("/images/generations", **openapi.generations(ImagesRequest))
    async def generations(request: Request) -> Response:
        """Draw a prompt as OpenAI's clients ask for it."""
        with models.metrics.watched():
            wanted = ImagesRequest.parse(await read_object(request), models)
            ours = wanted.ours(header_values(request))
        pictures = await draw(request, models, ours)
        size = _size(models.of(wanted.model).generator)
        common = {"size": size, "output_format": wanted.output_format}
        return _respond(pictures, common, stream=wanted.stream)

    @router.get("/models", **openapi.MODELS)
    async def list_models() -> Response:
        """List the models that are served, the default first."""
        data = [_model(name, models, began) for name in models.names]
        return JSONResponse({"object": "list", "data": data})

    @router.get("/models/{model}", **openapi.MODEL)
    async def model(model: str) -> Response:
        """Tell of one model."""
        name = models.of(model).generator.name
        return JSONResponse(_model(name, models, began))

    return router


def _size(generator: Generator) -> str:
    """Write the size of a model's pictures as OpenAI does, 512x512."""
    height, width = generator.engine.spec.image_size
    return f"{width}x{height}"


def _model(name: str, models: Models, began: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": began,
        "owned_by": "sidestep",
        "aliases": list(ALIASES) if name == models.names[0] else [],
    }


def _respond(pictures: Sequence[Picture], common: dict[str, str], *, stream: bool) -> Response:
    """Answer with all pictures; a stream has one completed event for each."""
    headers = {"Server-Timing": slowest(pictures), "Cache-Control": "no-store"}
    common = {**common, "background": "opaque", "quality": "auto"}
    created = int(time.time())
    if not stream:
        data = [{"b64_json": as_base64(picture), "seed": picture.seed} for picture in pictures]
        return JSONResponse({"created": created, "data": data, **common}, headers=headers)
    kind = "image_generation.completed"
    events = [
        {
            "type": kind,
            "b64_json": as_base64(picture),
            "seed": picture.seed,
            "created_at": created,
            **common,
        }
        for picture in pictures
    ]
    body = "".join(f"event: {kind}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Response(body, headers=headers, media_type="text/event-stream")

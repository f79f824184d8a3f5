"""What a route may ask the application for, and how it answers."""

from collections.abc import Mapping

import orjson
from fastapi import Request, Response

from cadenza.runtime import Runtime
from cadenza.web.sse import SseHub


def runtime_of(request: Request) -> Runtime:
    """Return the open parts of this process."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def hub_of(request: Request) -> SseHub:
    """Return the open streams of this process."""
    hub: SseHub = request.app.state.hub
    return hub


def encoded(data: object) -> bytes:
    """Return JSON; ids, dates and enums are written as the contract has them."""
    return orjson.dumps(data, option=orjson.OPT_UTC_Z)


def answer(
    data: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON response."""
    return Response(
        encoded(data),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )

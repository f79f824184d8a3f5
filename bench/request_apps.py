"""The servers that bench/request.py compares: one route, with more and more of the product."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp

from cadenza.flags.live import Flags, open_flags
from cadenza.flags.provider import FlagSet, SetVersion, Source, packaged
from cadenza.telemetry.log import Log
from cadenza.telemetry.metrics import Metrics
from cadenza.telemetry.recorder import Recorder
from cadenza.web.auth import User, Verifier, issue_token, require_user
from cadenza.web.handover import Handover
from cadenza.web.middleware import RequestLayer

SECRET = "bench-" * 8
USER = "5b0e0000-0000-4000-8000-000000000001"
TOKEN = issue_token(
    secret=SECRET, issuer="bench", audience="bench", sub=USER, ttl_s=3600, now=datetime.now(UTC)
)
BODY = b'{"id":"5b0e0000-0000-4000-8000-000000000001","status":"ok"}'
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}


async def _plain(calendar_id: UUID) -> Response:  # noqa: ARG001  a route with one id in it
    return Response(BODY, media_type="application/json")


def bare() -> FastAPI:
    """Return the route and nothing around it."""
    app = FastAPI(telemetry=NO_TELEMETRY)
    app.get("/v1/calendars/{calendar_id}")(_plain)
    return app


def layered(app: ASGIApp) -> ASGIApp:
    """Return the application inside the product's layers, logging to nowhere."""
    log = Log(open(os.devnull, "ab", buffering=0), version="0", replica="bench")  # noqa: PTH123, SIM115
    metrics = Metrics(version="0")
    return RequestLayer(Handover(app), record=Recorder([log.event, metrics]))


def signed_in(*, decides: bool) -> FastAPI:
    """Return the route behind a token, and with a flag decided for its user."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        found = packaged()

        async def peek() -> SetVersion:
            return SetVersion(version=found.version, epoch=UUID(int=0))

        async def load() -> FlagSet:
            return found

        source = Source(peek=peek, load=load)
        async with open_flags(source, domain="bench", note=_silent) as flags:
            app.state.flags = flags
            yield

    app = FastAPI(telemetry=NO_TELEMETRY, lifespan=lifespan)
    app.state.verifier = Verifier(secret=SECRET, issuer="bench", audience="bench")

    @app.get("/v1/calendars/{calendar_id}")
    async def route(
        calendar_id: UUID, request: Request, user: Annotated[User, Depends(require_user)]
    ) -> Response:
        if decides:
            flags: Flags = request.app.state.flags
            flags.evaluate("calendar", user.id)
        return await _plain(calendar_id)

    return app


def _silent(name: str, *, level: str = "info", **fields: object) -> None:
    pass


_APPS: dict[str, Callable[[], ASGIApp]] = {
    "bare": bare,
    "layers": lambda: layered(bare()),
    "token": lambda: layered(signed_in(decides=False)),
    "flag": lambda: layered(signed_in(decides=True)),
}


def __getattr__(name: str) -> ASGIApp:
    """Make the application that the server asks for by name, and no other."""
    if name not in _APPS:
        raise AttributeError(name)
    return _APPS[name]()

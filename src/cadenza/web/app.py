"""The application: routes, one layer around them, and how it leaves."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp

from cadenza.runtime import Runtime
from cadenza.web import calendars, flags, health, problems, publish, runs
from cadenza.web.auth import Operators, Verifier, read_operators
from cadenza.web.handover import Handover
from cadenza.web.middleware import RequestLayer
from cadenza.web.sse import SseHub
from cadenza.web.sse_wire import StreamLimits


def create_app(runtime: Runtime) -> FastAPI:
    """Return the application over open parts; whoever serves it calls `drain` before closing."""
    hub = SseHub(StreamLimits(heartbeat_s=runtime.heartbeat_s))

    @asynccontextmanager
    async def ticking(_app: FastAPI) -> AsyncGenerator[None]:
        async with hub.ticking():
            yield

    app = FastAPI(
        title="Cadenza",
        version=runtime.version,
        lifespan=ticking,
        docs_url=None,
        redoc_url=None,
        responses=problems.DOCUMENTED,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.runtime = runtime
    app.state.hub = hub
    app.state.verifier = Verifier(
        secret=runtime.identity.secret.get_secret_value(),
        issuer=runtime.identity.issuer,
        audience=runtime.identity.audience,
    )
    app.state.operators = Operators(read_operators(runtime.identity.operators_file))
    runtime.metrics.gauge("open_streams", "Streams being served.", lambda: hub.open)
    runtime.metrics.gauge("slow_streams", "Streams whose client does not read.", lambda: hub.slow)
    for part in (health, calendars, runs, publish, flags):
        app.include_router(part.router)
    problems.install(app, public_url=runtime.public_url)
    return app


def serve(app: FastAPI) -> ASGIApp:
    """Return what a server runs: the application inside its two layers."""
    runtime: Runtime = app.state.runtime
    return RequestLayer(
        Handover(app),
        record=runtime.record,
        count=runtime.metrics,
        budget_s=runtime.request_budget_s,
    )


async def drain(app: FastAPI) -> None:
    """Send every stream elsewhere, take no new runs, end what runs; then the server may stop."""
    runtime: Runtime = app.state.runtime
    runtime.phase.is_draining = True
    hub: SseHub = app.state.hub
    hub.drain()
    await runtime.drain()

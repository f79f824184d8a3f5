"""The product as bench/durable.py runs it: real runs, entries stored, or kept in memory only."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from cadenza.calendar.committer import Committer
from cadenza.calendar.generator import Drafted, Ended, Rejected, RunStatus
from cadenza.calendar.produce import Producers
from cadenza.calendar.request import Draft, RunRequest, slots
from cadenza.calendar.store.commit import NewEntry
from cadenza.runtime import open_runtime
from cadenza.settings import read_settings
from cadenza.web import app as web
from cadenza.web.operators import token_sha256

SECRET = "bench-" * 8
ISSUER = "bench"
GAP_S = 0.05
_COPY = "From the first sketch to the last polish, and what went wrong between them. " * 5


class Paced:
    """One entry per slot every GAP_S, marked with the instant it was made."""

    variant = "template"

    async def entries(self, request: RunRequest) -> AsyncGenerator[Drafted | Rejected | Ended]:
        """Yield an entry per slot."""
        for slot in slots(request):
            await asyncio.sleep(GAP_S)
            yield Drafted(
                Draft(
                    title=f"made {time.perf_counter_ns()}",
                    channel=slot.channel,
                    format="post",
                    copy=_COPY,
                    script=None,
                    target_audience=None,
                    date=slot.date,
                    time=slot.time,
                    timezone="UTC",
                    hashtags=("craft", "makers"),
                    media=(),
                )
            )
        yield Ended(status=RunStatus.COMPLETED)


class Forgetful(Committer):
    """The baseline: says that an entry is stored, and stores nothing."""

    async def store(self, item: NewEntry) -> bool:  # noqa: ARG002
        """Return at once."""
        return True


class Product:
    """The application, opened in the server's own lifespan."""

    def __init__(self, *, is_durable: bool) -> None:
        self._is_durable = is_durable
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; open the runtime when the server starts."""
        if scope["type"] == "lifespan":
            await receive()
            async with self._opened() as app:
                self._app = app
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif self._app is not None:
            await self._app(scope, receive, send)

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[ASGIApp]:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            operators = home / "operators.json"
            hashed = token_sha256("bench")
            operators.write_text(f'[{{"name":"b","tokenSha256":"{hashed}","role":"viewer"}}]')
            settings = read_settings(
                {
                    "CADENZA_ENV": "development",
                    "CADENZA_HOME": folder,
                    "CADENZA_DATABASE_URL": os.environ["BENCH_DSN"],  # noqa: TID251
                    "CADENZA_JWT_SECRET": SECRET,
                    "CADENZA_JWT_ISSUER": ISSUER,
                    "CADENZA_OPERATORS_FILE": str(operators),
                    "CADENZA_LOG_FILE": os.devnull,
                    "CADENZA_REQUEST_BUDGET_S": "30",
                }
            )
            async with open_runtime(settings) as runtime:
                kind = Committer if self._is_durable else Forgetful
                committer = kind(runtime.database, budget_s=30)
                parts = replace(
                    runtime.parts, generators={"template": Paced()}, committer=committer
                )
                changed = replace(runtime, parts=parts, producers=Producers(parts))
                loop = asyncio.create_task(committer.run())
                app = web.create_app(changed)
                async with app.router.lifespan_context(app):
                    yield web.serve(app)
                loop.cancel()


durable = Product(is_durable=True)
memory = Product(is_durable=False)

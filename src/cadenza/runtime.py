"""COMPOSITION ROOT: the only place that chooses parts, opens them in order and closes them back."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr
from uuid_utils.compat import uuid7

from cadenza import __version__
from cadenza.calendar.committer import Committer
from cadenza.calendar.ending import Instance
from cadenza.calendar.event_log import EventLog
from cadenza.calendar.generator import Generator
from cadenza.calendar.listen import Deadlines
from cadenza.calendar.openai import OpenAIGenerator
from cadenza.calendar.produce import Parts, Producers
from cadenza.calendar.store import runs
from cadenza.calendar.template import TemplateGenerator
from cadenza.db import idempotency, instance
from cadenza.db.migrate import head
from cadenza.db.pool import Conn, Database
from cadenza.errors import DatabaseUnavailable
from cadenza.flags import store as flag_store
from cadenza.flags.live import Flags, open_flags
from cadenza.settings import Profile, Settings
from cadenza.telemetry import outcomes
from cadenza.telemetry.log import Log
from cadenza.telemetry.loops import every, for_ever, watched
from cadenza.telemetry.metrics import Metrics
from cadenza.telemetry.open import open_log
from cadenza.telemetry.outcomes import Ring
from cadenza.telemetry.recorder import Record, Recorder

BEAT_S = 2.0
FLUSH_S = 0.25
RETENTION_S = 3600.0
KEEP_EVENTS_H = 24
KEEP_KEYS_DAYS = 7


@dataclass(slots=True)
class Phase:
    """Where this process is in its life; changed by whoever starts and stops it."""

    is_draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tokens must look like, and where the operators are listed."""

    secret: SecretStr
    issuer: str
    audience: str
    operators_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The open parts of one process, for whoever serves or drives them."""

    profile: str
    version: str
    replica: str
    public_url: str
    request_budget_s: float
    heartbeat_s: float
    drain_s: float
    identity: Identity
    settings_present: frozenset[str]
    schema_needed: str
    database: Database
    flags: Flags
    log: Log
    metrics: Metrics
    record: Record
    ring: Ring
    events: EventLog
    parts: Parts
    producers: Producers
    phase: Phase = field(default_factory=Phase)

    @property
    def is_development(self) -> bool:
        """Say whether this is a developer's machine, with all that it brings along."""
        return self.profile == Profile.DEVELOPMENT

    async def drain(self) -> None:
        """Take no new runs, let those that run finish, end the rest as interrupted."""
        self.phase.is_draining = True
        await self.producers.drain(within_s=max(0.0, self.drain_s - 3.0))
        await self.ring.flush()
        self.log.note("process.instance.drained")


@asynccontextmanager
async def open_runtime(settings: Settings) -> AsyncGenerator[Runtime]:
    """Open everything that serves a request, start the loops, and close in the reverse order.

    Does not wait for the database: with it away, health says so and requests answer 503.
    `settings` must be complete (database, identity): `cli/up.py` completes those of development.
    """
    async with AsyncExitStack() as stack:
        name = stack.enter_context(instance.claim_name(settings.home))
        me = Instance(name=name, boot=uuid7())
        metrics = Metrics(version=__version__)
        log = stack.enter_context(
            open_log(
                settings.log_file,
                version=__version__,
                replica=instance.replica(me.name, me.boot),
                level=settings.log_level,
                user_key=None
                if settings.log_user_id == "plain"
                else settings.home / "log-user-id.key",
                dropped=lambda _key: metrics.dropped_fields.inc(),
            )
        )
        record = Recorder([log.event, metrics], log.failure)
        dsn = (settings.database_url or SecretStr("")).get_secret_value()
        database = Database(dsn, budget_s=settings.request_budget_s)
        await database.open()
        stack.push_async_callback(database.close)
        flags = await stack.enter_async_context(
            open_flags(
                flag_store.source(database),
                domain=f"cadenza-{me.boot}",
                note=log.note,
                hard_kills=settings.hard_kills,
                poll_s=settings.flags_poll_s,
                applied=lambda version: _beat(database, me, version),
            )
        )
        parts = _parts(
            generators=_generators(settings, stack),
            lease_s=settings.run_lease_s,
            database=database,
            log=log,
            record=record,
            me=me,
        )
        runtime = _runtime(settings, parts, flags, metrics)
        _watch(runtime)
        await _start_loops(stack, runtime)
        log.note("process.instance.started", message=f"profile {settings.env}")
        for key in settings.ignored_switches:
            log.note("flags.override.ignored", message=f"{key}: the database decides")
        yield runtime


def _parts(
    *,
    generators: Mapping[str, Generator],
    lease_s: float,
    database: Database,
    log: Log,
    record: Record,
    me: Instance,
) -> Parts:
    return Parts(
        database=database,
        events=EventLog(database),
        committer=Committer(database),
        generators=generators,
        record=record,
        log=log,
        instance=me,
        version=__version__,
        lease_s=lease_s,
    )


def _generators(settings: Settings, stack: AsyncExitStack) -> Mapping[str, Generator]:
    template = TemplateGenerator()
    found: dict[str, Generator] = {template.variant: template}
    if settings.ai_base_url and settings.ai_model:
        key = settings.ai_api_key
        model = OpenAIGenerator(
            base_url=settings.ai_base_url,
            api_key=None if key is None else key.get_secret_value(),
            model=settings.ai_model,
            deadlines=Deadlines(
                connect_s=settings.ai_connect_s,
                first_s=settings.ai_first_s,
                between_s=settings.ai_between_s,
                total_s=settings.ai_total_s,
            ),
        )
        stack.push_async_callback(model.aclose)
        found[model.variant] = model
    return found


def _runtime(settings: Settings, parts: Parts, flags: Flags, metrics: Metrics) -> Runtime:
    return Runtime(
        profile=settings.env,
        version=__version__,
        replica=instance.replica(parts.instance.name, parts.instance.boot),
        public_url=settings.public_url or f"http://{settings.host}:{settings.port}",
        request_budget_s=settings.request_budget_s,
        heartbeat_s=settings.heartbeat_s,
        drain_s=settings.drain_s,
        identity=Identity(
            secret=settings.jwt_secret or SecretStr(""),
            issuer=settings.jwt_issuer or "",
            audience=settings.jwt_audience,
            operators_file=settings.operators_file or settings.home / "operators.json",
        ),
        settings_present=settings.present,
        schema_needed=head(),
        database=parts.database,
        flags=flags,
        log=parts.log,
        metrics=metrics,
        record=parts.record,
        ring=Ring(parts.database, parts.record, version=__version__),
        events=parts.events,
        parts=parts,
        producers=Producers(parts),
    )


def _watch(runtime: Runtime) -> None:
    gauge = runtime.metrics.gauge
    gauge("active_runs", "Runs produced by this process.", lambda: len(runtime.producers))
    gauge("flags_version", "Flag-set version in force.", lambda: runtime.flags.set_version)
    gauge(
        "flags_stale_seconds", "Since the database confirmed them.", lambda: runtime.flags.stale_s
    )
    gauge("outcomes_waiting", "Outcomes that are not yet rows.", lambda: len(runtime.ring))


async def _start_loops(stack: AsyncExitStack, runtime: Runtime) -> None:
    parts, ring = runtime.parts, runtime.ring
    me = parts.instance

    async def beat() -> None:
        await _beat(runtime.database, me, runtime.flags.set_version)

    async def say_goodbye() -> None:
        with suppress(DatabaseUnavailable):
            await runtime.database.as_worker(lambda conn: instance.stopped(conn, me.boot))

    loops: list[Callable[[], Awaitable[object]]] = [
        parts.committer.run,
        parts.events.poll,
        runtime.producers.renew,
        runtime.producers.reap,
        lambda: every(FLUSH_S, ring.flush),
        lambda: every(BEAT_S, watched(parts.log, beat)),
        lambda: every(RETENTION_S, lambda: _forget_the_old(runtime.database)),
    ]
    stack.push_async_callback(say_goodbye)
    tasks = [asyncio.create_task(for_ever(parts.log, loop)) for loop in loops]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stack.push_async_callback(stop)


async def _beat(database: Database, me: Instance, flags_version: int) -> None:
    async def work(conn: Conn) -> None:
        await instance.beat(
            conn, name=me.name, boot=me.boot, version=__version__, flags_version=flags_version
        )

    await database.as_worker(work)


async def _forget_the_old(database: Database) -> None:
    async def work(conn: Conn) -> None:
        await runs.purge_events(conn, hours=KEEP_EVENTS_H)
        await outcomes.purge(conn, hours=KEEP_EVENTS_H)
        await idempotency.purge(conn, days=KEEP_KEYS_DAYS)

    await database.as_ops(work, budget_s=30.0)

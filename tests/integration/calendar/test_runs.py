"""A run's life on a real database: stored, shown, ended exactly once, whoever ends it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from uuid_utils.compat import uuid7

from cadenza.calendar.committer import Committer
from cadenza.calendar.ending import Instance
from cadenza.calendar.event_log import EventLog
from cadenza.calendar.generator import Drafted, Ended, Rejected, RunStatus
from cadenza.calendar.produce import Parts, Producers
from cadenza.calendar.request import Cadence, Draft, RunRequest, slots
from cadenza.calendar.run import Order, cancel_run, start_run
from cadenza.db.gate import gate_of
from cadenza.db.pool import GATE_CLASS, Database
from cadenza.errors import Conflict, Invalid, NotFound, RateLimited, Reason
from cadenza.events import Event, Lane, RunFinished, Verdict
from cadenza.flags.evaluate import Decision
from cadenza.flags.store import ensure_first_values, peek
from cadenza.telemetry.log import Log
from support import TestDatabase, eventually

REQUEST = RunRequest(
    channels=("instagram", "tiktok"),
    cadence=Cadence.DAILY,
    start=date(2026, 12, 1),
    end=date(2026, 12, 5),
    timezone="Europe/Madrid",
    brief=None,
    constraints={},
)
OK = Ended(status=RunStatus.COMPLETED)
Item = Drafted | Rejected | Ended


def drafts(count: int) -> list[Item]:
    return [
        Drafted(
            Draft(
                title=f"Title {number}",
                channel=slot.channel,
                format="post",
                copy=f"Copy {number} \N{SPARKLES}",
                script=None,
                target_audience=None,
                date=slot.date,
                time=slot.time,
                timezone="Europe/Madrid",
                hashtags=("a",),
                media=(),
            )
        )
        for number, slot in enumerate(slots(REQUEST)[:count], start=1)
    ]


class Scripted:
    """A generator that says what it is told, and waits where it is told to."""

    variant = "template"

    def __init__(self, items: list[Item], *, hold_at: int | None = None) -> None:
        self.items, self.hold_at = items, hold_at
        self.held, self.go_on = asyncio.Event(), asyncio.Event()
        self.is_closed = False

    async def entries(self, request: RunRequest) -> AsyncGenerator[Item]:  # noqa: ARG002
        try:
            for place, item in enumerate(self.items):
                if place == self.hold_at:
                    self.held.set()
                    await self.go_on.wait()
                yield item
        finally:
            self.is_closed = True


@dataclass(eq=False)
class Recording:
    """A reader that keeps what it is given, and may look at the database at that very moment."""

    frames: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    look: Callable[[dict[str, Any]], None] | None = None
    has_ended: bool = False
    has_failed: bool = False

    def push(self, frames: bytes, count: int = 1) -> None:
        found = parsed(frames)
        assert len(found) == count
        for frame in found:
            if self.look is not None:
                self.look(frame)
            self.frames.append(frame)

    def finish(self, frames: bytes = b"", count: int = 0) -> None:
        self.push(frames, count)
        self.has_ended = True

    def fail(self, frame: bytes) -> None:
        self.push(frame, 1)
        self.has_failed = True

    async def ended(self) -> None:
        async def over() -> bool:
            return self.has_ended or self.has_failed

        await eventually(over, what="the stream's end")


def parsed(frames: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in frames.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append({**fields, "data": json.loads(fields["data"])})
    return found


@dataclass
class House:
    """The parts of one process over one test database."""

    database: Database
    parts: Parts
    producers: Producers
    decision: Decision
    events: list[Event]
    owner_dsn: str
    user_id: str = field(default_factory=lambda: str(uuid4()))

    def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        with psycopg.connect(self.owner_dsn, row_factory=dict_row) as conn:  # pyright: ignore[reportArgumentType]
            return conn.execute(statement, values).fetchall()  # pyright: ignore[reportArgumentType, reportReturnType]

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.owner_dsn, autocommit=True) as conn:
            conn.execute(statement, values)  # pyright: ignore[reportArgumentType]

    async def start(self, **changes: Any) -> UUID:
        order = Order(
            user_id=self.user_id,
            calendar_id=uuid4(),
            request=REQUEST,
            lane=Lane.LIVE,
            request_id="request-1",
        )
        started = await start_run(
            replace(order, **changes),
            parts=self.parts,
            producers=self.producers,
            decide=lambda: self.decision,
            refresh=self.refresh,
        )
        return started.run_id

    async def refresh(self) -> None:
        found = await self.database.as_worker(peek)
        self.decision = replace(self.decision, set_version=found.version)

    async def follow(self, run_id: UUID, reader: Recording, after: int = -1) -> Recording:
        await self.parts.events.follow(run_id, reader, after=after)
        return reader

    async def idle(self) -> None:
        async def nothing() -> bool:
            return len(self.producers) == 0

        await eventually(nothing, what="no run is produced here")

    def finished(self) -> list[RunFinished]:
        return [event for event in self.events if isinstance(event, RunFinished)]


@asynccontextmanager
async def house(
    database: TestDatabase, generator: Scripted, *, lease_s: float = 10.0, name: str = "one"
) -> AsyncGenerator[House]:
    opened = Database(database.dsn, budget_s=5)
    await opened.open()
    events: list[Event] = []
    parts = Parts(
        database=opened,
        events=EventLog(opened, fast_s=0.01, slow_s=0.05),
        committer=Committer(opened),
        generators={"template": generator},
        record=events.append,
        log=Log(BytesIO(), version="0", replica="test"),
        instance=Instance(name=name, boot=uuid7()),
        version="0",
        lease_s=lease_s,
    )
    producers = Producers(parts)
    await opened.as_ops(lambda conn: ensure_first_values(conn, development=True))
    decision = Decision(
        key="calendar",
        user_id="",
        variant="template",
        rule="safe",
        bucket=0,
        version=1,
        set_version=(await opened.as_worker(peek)).version,
        source="database",
    )
    loops = [parts.committer.run(), parts.events.poll(), producers.renew()]
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield House(opened, parts, producers, decision, events, database.owner_dsn)
    finally:
        generator.go_on.set()
        await producers.drain(within_s=0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await opened.close()


def in_house(
    database: TestDatabase,
    generator: Callable[[], Scripted],
    work: Callable[[House, Scripted], Awaitable[None]],
    **options: Any,
) -> None:
    async def main() -> None:
        scripted = generator()
        async with house(database, scripted, **options) as opened:
            await work(opened, scripted)

    asyncio.run(main())


def test_every_entry_is_in_the_database_before_anyone_is_shown_it(database: TestDatabase) -> None:
    async def work(house: House, generator: Scripted) -> None:
        run_id = await house.start()
        await generator.held.wait()

        def is_stored(frame: dict[str, Any]) -> None:
            if frame["event"] == "entry":
                wanted = frame["data"]["entry"]["id"]
                found = "SELECT id FROM cadenza.calendar_entry WHERE id = %s"
                assert house.rows(found, wanted), "shown before it was stored"

        reader = await house.follow(run_id, Recording(look=is_stored))
        generator.go_on.set()
        await reader.ended()
        assert [frame["event"] for frame in reader.frames] == ["run", *["entry"] * 10, "done"]

    in_house(database, lambda: Scripted([*drafts(10), OK], hold_at=0), work)


def test_a_run_ends_with_one_terminal_frame_one_outcome_and_one_revision(
    database: TestDatabase,
) -> None:
    async def work(house: House, _generator: Scripted) -> None:
        run_id = await house.start()
        reader = await house.follow(run_id, Recording())
        await reader.ended()
        ids = [frame["id"] for frame in reader.frames]
        assert ids == [f"1.{place}" for place in range(12)]
        done = reader.frames[-1]["data"]
        assert (done["status"], done["entries"], done["rejected"]) == ("completed", 10, 1)
        assert (done["revision"], done["needsReview"]) == (1, False)
        assert [event.id for event in house.finished()] == [run_id]
        outcome = house.rows("SELECT * FROM cadenza.outcome")
        assert [(row["id"], row["verdict"]) for row in outcome] == [(run_id, "good")]
        revision = house.rows("SELECT * FROM cadenza.calendar_revision")
        assert [(row["cause"], len(row["changes"])) for row in revision] == [("run", 10)]

    items = [*drafts(10), Rejected("not_json"), OK]
    in_house(database, lambda: Scripted(items), work)


def test_what_a_failed_run_made_is_kept_and_wants_a_review(database: TestDatabase) -> None:
    async def work(house: House, _generator: Scripted) -> None:
        run_id = await house.start()
        reader = await house.follow(run_id, Recording())
        await reader.ended()
        done = reader.frames[-1]["data"]
        assert (done["status"], done["reason"]) == ("timeout", "timeout_between")
        assert (done["entries"], done["needsReview"]) == (4, True)
        rows = house.rows("SELECT needs_review FROM cadenza.calendar_entry")
        assert [row["needs_review"] for row in rows] == [True] * 4
        assert house.finished()[0].verdict is Verdict.BAD

    stall = Ended(status=RunStatus.TIMEOUT, reason=Reason.TIMEOUT_BETWEEN)
    in_house(database, lambda: Scripted([*drafts(4), stall]), work)


def test_a_producer_that_lost_its_lease_writes_nothing_more(database: TestDatabase) -> None:
    async def work(house: House, generator: Scripted) -> None:
        run_id = await house.start()
        await generator.held.wait()
        house.execute("UPDATE cadenza.run SET lease_token = gen_random_uuid()")
        generator.go_on.set()
        await house.idle()
        assert len(house.rows("SELECT 1 FROM cadenza.calendar_entry")) == 3
        assert len(house.rows("SELECT 1 FROM cadenza.run_event")) == 4
        assert house.rows("SELECT status FROM cadenza.run WHERE id = %s", run_id) == [
            {"status": "running"}
        ]
        assert generator.is_closed
        assert house.finished() == []

    in_house(database, lambda: Scripted([*drafts(10), OK], hold_at=3), work)


def test_a_lost_producers_run_is_ended_once_by_whoever_comes_and_its_readers_see_it(
    database: TestDatabase,
) -> None:
    async def work(house: House, generator: Scripted) -> None:
        run_id = await house.start()
        await generator.held.wait()
        reader = Recording()
        async with AsyncTwin(database) as twin:
            await twin.follow(run_id, reader)
            house.execute(
                "UPDATE cadenza.run SET lease_token = gen_random_uuid(), lease_until = now()"
            )
            ended = await asyncio.gather(*(twin.producers.reap_once() for _ in range(5)))
            await reader.ended()
            assert sum(ended) == 1
            assert [event.reason for event in twin.finished()] == [Reason.PROCESS_LOST]
        assert [frame["event"] for frame in reader.frames] == ["run", *["entry"] * 3, "done"]
        assert reader.frames[-1]["data"]["status"] == "interrupted"
        assert len(house.rows("SELECT 1 FROM cadenza.outcome")) == 1
        assert len(house.rows("SELECT 1 FROM cadenza.calendar_entry")) == 3
        generator.go_on.set()
        await house.idle()
        assert house.finished() == []

    in_house(database, lambda: Scripted([*drafts(10), OK], hold_at=3), work)


def test_a_new_boot_ends_its_own_last_boots_runs_at_once(database: TestDatabase) -> None:
    async def work(house: House, generator: Scripted) -> None:
        await house.start()
        await generator.held.wait()
        async with AsyncTwin(database, name="one") as twin:
            assert await twin.producers.reap_once() == 1
        async with AsyncTwin(database, name="another") as other:
            assert await other.producers.reap_once() == 0

    in_house(database, lambda: Scripted([*drafts(10), OK], hold_at=3), work)


def test_a_cancel_ends_the_run_and_keeps_what_it_made(database: TestDatabase) -> None:
    async def work(house: House, generator: Scripted) -> None:
        run_id = await house.start()
        reader = await house.follow(run_id, Recording())
        await generator.held.wait()
        assert await cancel_run(house.database, house.producers, house.user_id, run_id) == "running"
        await reader.ended()
        done = reader.frames[-1]["data"]
        assert (done["status"], done["reason"], done["entries"]) == ("cancelled", "by_user", 3)
        assert generator.is_closed
        assert house.finished()[0].verdict is Verdict.IGNORED

    in_house(database, lambda: Scripted([*drafts(10), OK], hold_at=3), work)


def test_a_cancel_given_to_another_replica_arrives_with_the_next_renewal(
    database: TestDatabase,
) -> None:
    async def work(house: House, generator: Scripted) -> None:
        run_id = await house.start()
        reader = await house.follow(run_id, Recording())
        await generator.held.wait()
        async with AsyncTwin(database) as twin:
            await cancel_run(twin.database, twin.producers, house.user_id, run_id)
        await reader.ended()
        assert reader.frames[-1]["data"]["status"] == "cancelled"

    options = {"lease_s": 0.5}
    in_house(database, lambda: Scripted([*drafts(10), OK], hold_at=3), work, **options)


def test_of_many_starts_at_once_one_runs_and_the_others_learn_its_id(
    database: TestDatabase,
) -> None:
    async def work(house: House, _generator: Scripted) -> None:
        made = await asyncio.gather(*(house.start() for _ in range(8)), return_exceptions=True)
        runs = [item for item in made if isinstance(item, UUID)]
        refused = [item for item in made if isinstance(item, Conflict)]
        assert (len(runs), len(refused)) == (1, 7)
        assert {item.code for item in refused} == {"RUN_IN_PROGRESS"}
        assert {item.extra["runId"] for item in refused} == {str(runs[0])}

    in_house(database, lambda: Scripted([*drafts(2), OK], hold_at=1), work)


def test_one_idempotency_key_is_one_run_and_another_body_is_refused(
    database: TestDatabase,
) -> None:
    async def work(house: House, generator: Scripted) -> None:
        key = {"idempotency_key": "k-1", "fingerprint": "f-1", "calendar_id": uuid4()}
        made = await asyncio.gather(*(house.start(**key) for _ in range(8)))
        assert len(set(made)) == 1
        with pytest.raises(Invalid) as refused:
            await house.start(**key | {"fingerprint": "f-2"})
        assert refused.value.code == "IDEMPOTENCY_KEY_REUSED"
        generator.go_on.set()
        await house.idle()
        assert await house.start(**key) == made[0]

    in_house(database, lambda: Scripted([*drafts(2), OK], hold_at=1), work)


def test_the_eleventh_run_in_five_minutes_is_asked_to_wait(database: TestDatabase) -> None:
    async def work(house: House, _generator: Scripted) -> None:
        for _ in range(10):
            await house.start()
            await house.idle()
        with pytest.raises(RateLimited) as refused:
            await house.start()
        assert refused.value.retry_after_s is not None
        assert 0 < refused.value.retry_after_s <= 300
        await house.start(lane=Lane.DRILL)

    in_house(database, lambda: Scripted([*drafts(1), OK]), work)


def test_a_calendar_with_entries_or_of_someone_else_takes_no_run(database: TestDatabase) -> None:
    async def work(house: House, _generator: Scripted) -> None:
        calendar_id = uuid4()
        await house.start(calendar_id=calendar_id)
        await house.idle()
        with pytest.raises(Conflict) as refused:
            await house.start(calendar_id=calendar_id)
        assert refused.value.code == "CALENDAR_NOT_EMPTY"
        with pytest.raises(NotFound):
            await house.start(calendar_id=calendar_id, user_id=str(uuid4()))

    in_house(database, lambda: Scripted([*drafts(1), OK]), work)


def test_a_decision_of_an_older_flag_set_is_taken_again(database: TestDatabase) -> None:
    async def work(house: House, _generator: Scripted) -> None:
        house.decision = replace(house.decision, set_version=-1)
        run_id = await house.start()
        assert house.rows("SELECT id FROM cadenza.run") == [{"id": run_id}]
        assert house.decision.set_version > 0

    in_house(database, lambda: Scripted([*drafts(1), OK]), work)


def test_a_shutdown_lets_short_runs_finish_and_interrupts_long_ones(
    database: TestDatabase,
) -> None:
    async def work(house: House, generator: Scripted) -> None:
        run_id = await house.start()
        reader = await house.follow(run_id, Recording())
        await generator.held.wait()
        await house.producers.drain(within_s=0.05)
        await reader.ended()
        done = reader.frames[-1]["data"]
        assert (done["status"], done["reason"], done["entries"]) == ("interrupted", "shutdown", 3)
        assert house.finished()[0].verdict is Verdict.IGNORED

    in_house(database, lambda: Scripted([*drafts(10), OK], hold_at=3), work)


def test_a_generator_that_raises_still_ends_its_run(database: TestDatabase) -> None:
    class Broken(Scripted):
        async def entries(self, request: RunRequest) -> AsyncGenerator[Item]:  # noqa: ARG002
            yield drafts(1)[0]
            raise RuntimeError("a secret sk-12345678901234567890")

    async def work(house: House, _generator: Scripted) -> None:
        run_id = await house.start()
        reader = await house.follow(run_id, Recording())
        await reader.ended()
        done = reader.frames[-1]["data"]
        assert (done["status"], done["reason"], done["entries"]) == ("failed", "internal", 1)

    in_house(database, lambda: Broken([]), work)


def test_an_entry_that_cannot_be_stored_takes_no_other_run_along(database: TestDatabase) -> None:
    poisoned = drafts(2)
    second = poisoned[1]
    assert isinstance(second, Drafted)
    poisoned[1] = Drafted(replace(second.draft, copy="no database takes a \x00"))

    class ByUser(Scripted):
        async def entries(self, request: RunRequest) -> AsyncGenerator[Item]:
            for place, item in enumerate(self.items if request.brief is None else poisoned):
                if place == 1:  # so that the second entries of all runs gather
                    await self.go_on.wait()
                yield item

    async def work(house: House, generator: Scripted) -> None:
        async def follow(request: RunRequest) -> Recording:
            run_id = await house.start(user_id=str(uuid4()), request=request)
            return await house.follow(run_id, Recording())

        bad = replace(REQUEST, brief="bad")
        readers = [await follow(bad if number == 3 else REQUEST) for number in range(6)]
        generator.go_on.set()
        for reader in readers:
            await reader.ended()
        ends = [reader.frames[-1]["data"] for reader in readers]
        assert [end["status"] for end in ends] == [
            "failed" if number == 3 else "completed" for number in range(6)
        ]
        assert (ends[3]["reason"], ends[3]["entries"]) == ("internal", 1)

    in_house(database, lambda: ByUser([*drafts(4), OK]), work)


def test_resuming_after_any_place_gives_exactly_the_rest(database: TestDatabase) -> None:
    async def work(house: House, _generator: Scripted) -> None:
        run_id = await house.start()
        whole = await house.follow(run_id, Recording())
        await whole.ended()
        for after in range(-1, 7):
            rest = await house.follow(run_id, Recording(), after=after)
            assert rest.frames == whole.frames[after + 1 :]

    in_house(database, lambda: Scripted([*drafts(5), OK]), work)


class AsyncTwin:
    """A second process over the same database."""

    def __init__(self, database: TestDatabase, *, name: str = "two") -> None:
        self._entered = house(database, Scripted([]), name=name)

    async def __aenter__(self) -> House:
        return await self._entered.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self._entered.__aexit__(*error)  # pyright: ignore[reportArgumentType]


ENDS = [
    OK,
    Ended(status=RunStatus.PARTIAL, reason=Reason.MAX_TOKENS),
    *(
        Ended(status=RunStatus.TIMEOUT, reason=reason)
        for reason in Reason
        if reason.startswith("timeout_")
    ),
    *(
        Ended(status=RunStatus.FAILED, reason=reason)
        for reason in Reason
        if reason.startswith("provider_")
    ),
]


def test_whatever_ends_a_run_its_stream_ends_in_one_terminal_frame(
    database: TestDatabase,
) -> None:
    async def work(house: House, generator: Scripted) -> None:
        for end in ENDS:
            house.user_id = str(uuid4())
            generator.items = [*drafts(2), end]
            reader = await house.follow(await house.start(), Recording())
            await reader.ended()
            assert [frame["event"] for frame in reader.frames] == ["run", "entry", "entry", "done"]
            assert reader.frames[-1]["data"]["reason"] == end.reason

    in_house(database, lambda: Scripted([]), work)


def test_a_run_that_waited_at_the_gate_is_decided_again(database: TestDatabase) -> None:
    async def work(house: House, _generator: Scripted) -> None:
        async with await psycopg.AsyncConnection.connect(database.owner_dsn) as flipping:
            gate = [GATE_CLASS, gate_of("calendar")]
            await flipping.execute("SELECT pg_advisory_xact_lock(%s, %s)", gate)
            await flipping.execute("UPDATE cadenza.flag_set SET version = version + 1")
            starting = asyncio.ensure_future(house.start())

            async def waits() -> bool:
                asked = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                return starting.done() or bool(house.rows(asked))

            await eventually(waits, what="the run waits at the gate")
            assert not starting.done()
            before = house.decision.set_version
            await flipping.commit()
        await starting
        assert house.decision.set_version == before + 1

    in_house(database, lambda: Scripted([*drafts(1), OK]), work)

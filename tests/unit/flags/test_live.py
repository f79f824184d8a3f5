"""Held in memory, confirmed by polling, kept while the database is away."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from cadenza.errors import DatabaseUnavailable
from cadenza.flags.live import Flags, open_flags
from cadenza.flags.policy import Policy, first_values
from cadenza.flags.provider import FlagSet, SetVersion, Source, flag_set
from support import eventually

ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
CALENDAR, PUBLISH = first_values(development=True, version=1)


class World:
    """A database of one flag set, a clock, and a log, all in the test's hands."""

    def __init__(self) -> None:
        self.epoch = uuid4()
        self.is_away = False
        self.is_read_only = False
        self.loads = 0
        self.peeks = 0
        self.now = 1_000.0
        self.notes: list[tuple[str, str]] = []
        self.applied: list[int] = []
        self.set(CALENDAR, PUBLISH, version=1)

    def set(self, *policies: Policy, version: int) -> None:
        self.flags = flag_set(policies, version=version, epoch=self.epoch)

    async def peek(self) -> SetVersion:
        self.peeks += 1
        if self.is_away:
            raise DatabaseUnavailable
        return SetVersion(version=self.flags.version, epoch=self.epoch)

    async def load(self) -> FlagSet:
        self.loads += 1
        if self.is_away:
            raise DatabaseUnavailable
        return self.flags

    def note(self, name: str, *, level: str = "info", **_fields: object) -> None:
        self.notes.append((name, level))

    async def tell(self, version: int) -> None:
        if self.is_read_only:
            raise DatabaseUnavailable
        self.applied.append(version)

    def run(self, story: Callable[[Flags], Awaitable[Any]], *, poll_s: float = 3_600.0) -> None:
        async def within() -> None:
            async with open_flags(
                Source(peek=self.peek, load=self.load),
                domain=f"test-{uuid4()}",
                note=self.note,
                poll_s=poll_s,
                applied=self.tell,
                monotonic=lambda: self.now,
            ) as flags:
                await story(flags)

        asyncio.run(within())


def is_on(flags: Flags, key: str = "calendar") -> bool:
    return flags.evaluate(key, ALICE).is_on


def test_what_the_database_says_is_in_force_from_the_start() -> None:
    world = World()

    async def story(flags: Flags) -> None:
        assert (flags.set_version, flags.held.source) == (1, "database")
        assert is_on(flags)
        assert not is_on(flags, "publish")

    world.run(story)
    assert world.applied == [1]
    assert world.notes == [("flags.set.applied", "info")]


def test_a_change_is_picked_up_by_the_poll_and_loaded_once() -> None:
    world = World()

    async def story(flags: Flags) -> None:
        world.set(replace(CALENDAR, kill=True, version=2), PUBLISH, version=2)

        async def seen() -> bool:
            return flags.set_version == 2

        await eventually(seen)
        assert not is_on(flags)
        asked = world.peeks

        async def asked_again() -> bool:
            return world.peeks > asked + 2

        await eventually(asked_again)

    world.run(story, poll_s=0.001)
    assert world.loads == 2
    assert world.applied == [1, 2]


def test_without_the_database_at_the_start_everything_is_safe_until_it_comes() -> None:
    world = World()
    world.is_away = True

    async def story(flags: Flags) -> None:
        assert (flags.set_version, flags.held.source) == (0, "packaged")
        assert not is_on(flags)
        world.is_away = False
        assert await flags.refresh() == 1
        assert is_on(flags)

    world.run(story)


def test_the_last_values_stay_while_the_database_is_away_and_grow_stale() -> None:
    world = World()
    world.set(CALENDAR, replace(PUBLISH, percent_bp=10_000), version=1)

    async def story(flags: Flags) -> None:
        world.is_away = True
        world.set(replace(CALENDAR, kill=True), PUBLISH, version=2)
        assert not await flags.try_refresh()
        assert is_on(flags)
        assert is_on(flags, "publish")
        world.now += 301
        assert flags.stale_s == 301
        assert is_on(flags)
        assert not is_on(flags, "publish")
        world.is_away = False
        assert await flags.try_refresh()
        assert (flags.stale_s, flags.set_version) == (0, 2)
        assert not is_on(flags)

    world.run(story)


def test_the_poll_goes_on_after_the_database_was_away() -> None:
    world = World()

    async def story(flags: Flags) -> None:
        world.is_away = True
        asked = world.peeks

        async def asked_twice() -> bool:
            return world.peeks > asked + 1

        await eventually(asked_twice)
        world.set(replace(CALENDAR, kill=True), PUBLISH, version=2)
        world.is_away = False

        async def off() -> bool:
            return not is_on(flags)

        await eventually(off)

    world.run(story, poll_s=0.001)


def test_the_poll_outlives_a_fault_of_its_own() -> None:
    world = World()

    async def story(flags: Flags) -> None:
        world.set(replace(CALENDAR, kill=True), PUBLISH, version=2)
        world.flags = None  # pyright: ignore[reportAttributeAccessIssue]  # the fault under test

        async def noted() -> bool:
            return ("process.instance.failed", "error") in world.notes

        await eventually(noted)
        world.set(replace(CALENDAR, kill=True), PUBLISH, version=3)

        async def off() -> bool:
            return not is_on(flags)

        await eventually(off)

    world.run(story, poll_s=0.001)


def test_a_set_that_cannot_be_proven_is_noted_once_and_never_in_force() -> None:
    world = World()

    async def story(flags: Flags) -> None:
        broken = replace(CALENDAR, percent_bp=20_000)
        world.set(broken, PUBLISH, version=2)
        world.now += 50
        assert await flags.refresh() == 1
        assert await flags.refresh() == 1
        assert is_on(flags)
        assert flags.stale_s == 50
        world.set(replace(CALENDAR, kill=True), PUBLISH, version=3)
        assert await flags.refresh() == 3
        assert not is_on(flags)

    world.run(story)
    assert [name for name, _ in world.notes] == [
        "flags.set.applied",
        "flags.set.refused",
        "flags.set.applied",
    ]


def test_another_epoch_is_another_set_even_at_the_same_version() -> None:
    world = World()

    async def story(flags: Flags) -> None:
        world.epoch = uuid4()
        world.set(replace(CALENDAR, kill=True), PUBLISH, version=1)
        await flags.refresh()
        assert not is_on(flags)

    world.run(story)


def test_an_instance_row_that_cannot_be_written_stops_nothing() -> None:
    world = World()
    world.is_read_only = True

    async def story(flags: Flags) -> None:
        assert flags.set_version == 1

    world.run(story)

"""The flags of this instance: held in memory, confirmed against one row twice a second.

With the database away the last values go on answering; what they may still decide is
`evaluate`'s concern, by `stale_s`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

from openfeature.client import OpenFeatureClient
from openfeature.event import ProviderEventDetails

from cadenza.errors import Invalid, Unavailable
from cadenza.flags.drill import Drill
from cadenza.flags.evaluate import Decision, Observer, connect, disconnect, evaluate
from cadenza.flags.provider import (
    DATABASE,
    PACKAGED,
    CadenzaProvider,
    Held,
    SetVersion,
    Source,
    hold,
    packaged,
)
from cadenza.telemetry.log import error_fields

POLL_S: Final = 0.5


class Note(Protocol):
    """Writes one line that is no unit of work; `Log.note` is one."""

    def __call__(self, name: str, /, *, level: str = "info", **fields: object) -> None:
        """Write the line."""
        ...


Applied = Callable[[int], Awaitable[None]]
"""Told each version put in force, such as to write it in the instance's row."""


class Flags:
    """What `open_flags` yields: decisions from memory, and what they rest on."""

    def __init__(
        self,
        source: Source,
        client: OpenFeatureClient,
        provider: CadenzaProvider,
        *,
        hard_kills: frozenset[str],
        note: Note,
        applied: Applied | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._source, self._client, self._provider = source, client, provider
        self._note, self._applied, self._monotonic = note, applied, monotonic
        self._confirmed_at = monotonic()
        self._is_away = False
        self._refused: SetVersion | None = None
        self._one_at_a_time = asyncio.Lock()
        self.hard_kills = hard_kills

    @property
    def held(self) -> Held:
        """Return the set in force, with its source."""
        return self._provider.held

    @property
    def set_version(self) -> int:
        """Return the flag-set version in force; 0 while only the packaged values are."""
        return self.held.flags.version

    @property
    def stale_s(self) -> float:
        """Return for how many seconds the database has not confirmed the set in force."""
        return self._monotonic() - self._confirmed_at

    def evaluate(self, key: str, user_id: str, *, drill: Drill | None = None) -> Decision:
        """Return the decision of one flag for one user, from memory; see `evaluate.evaluate`."""
        return evaluate(
            self._client,
            key=key,
            user_id=user_id,
            drill=drill,
            hard_kills=self.hard_kills,
            stale_s=self.stale_s,
        )

    async def refresh(self) -> int:
        """Put the database's set in force if it is another one; return the version in force.

        Raises Unavailable while the database is away. A set that cannot be proven is noted
        and leaves the previous one in force, unconfirmed.
        """
        async with self._one_at_a_time:
            asked_at = self._monotonic()
            found = await self._source.peek()
            flags = self.held.flags
            if (found.version, found.epoch) != (flags.version, flags.epoch):
                if found == self._refused:
                    return flags.version
                if not await self._take(found):
                    return flags.version
            self._confirmed_at = asked_at
            return self.set_version

    async def try_refresh(self) -> bool:
        """Refresh; say whether the database answered."""
        try:
            await self.refresh()
        except Unavailable as error:
            if not self._is_away:
                self._provider.emit_provider_stale(ProviderEventDetails(message=error.code))
            self._is_away = True
            return False
        if self._is_away:
            self._provider.emit_provider_ready(ProviderEventDetails())
        self._is_away = False
        return True

    async def poll(self, every_s: float) -> None:
        """Refresh for ever, once each `every_s`."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.try_refresh()
            except Exception as error:  # noqa: BLE001  # a poller that died would look like calm
                fault = error_fields(error)
                self._note("process.instance.failed", level="error", error=fault)

    async def _take(self, found: SetVersion) -> bool:
        """Load, prove and swap; False when the set does not answer as its policies say."""
        try:
            loaded = await self._source.load()
            # Long lists take a while to prove: not on the loop that everybody shares.
            held = await asyncio.to_thread(hold, loaded, source=DATABASE)
        except Invalid as error:
            self._refused = found
            self._note("flags.set.refused", level="error", message=error.detail)
            return False
        self._refused = None
        self._provider.swap(held)
        self._note("flags.set.applied", message=f"version {loaded.version} from the database")
        if self._applied is not None:
            with suppress(Unavailable):
                await self._applied(loaded.version)
        return True


@asynccontextmanager
async def open_flags(
    source: Source,
    *,
    domain: str,
    note: Note,
    hard_kills: frozenset[str] = frozenset(),
    poll_s: float = POLL_S,
    applied: Applied | None = None,
    observe: Observer | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Flags]:
    """Yield the flags, loaded if the database answers, else the packaged safe values; polling.

    `domain` must be this instance's own: providers are registered per process under it.
    """
    provider = CadenzaProvider(hold(packaged(), source=PACKAGED))
    client = connect(provider, domain=domain, observe=observe)
    flags = Flags(
        source,
        client,
        provider,
        hard_kills=hard_kills,
        note=note,
        applied=applied,
        monotonic=monotonic,
    )
    await flags.try_refresh()
    poller = asyncio.create_task(flags.poll(poll_s))
    try:
        yield flags
    finally:
        poller.cancel()
        with suppress(asyncio.CancelledError):
            await poller
        disconnect(domain)

import asyncio
import os
import signal

import pytest
from starlette.types import Receive, Scope, Send

from cadenza.cli.server import DrainingServer, listening, url_of


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    for _ in range(2):
        event = await receive()
        await send({"type": f"{event['type']}.complete"})


async def stop(signals: int, *, drain_s: float = 20) -> tuple[list[str], DrainingServer]:
    """Serve, be told to stop so often, and return what happened in which order."""
    happened: list[str] = []
    may_end = asyncio.Event()

    async def drain() -> None:
        happened.append("draining")
        try:
            if signals > 1:
                os.kill(os.getpid(), signal.SIGINT)
            elif drain_s < 1:
                await may_end.wait()
        finally:
            happened.append("drained")
        if signals > 1:
            await may_end.wait()

    def ready() -> None:
        happened.append("ready")
        os.kill(os.getpid(), signal.SIGTERM)

    server = DrainingServer(app, drain=drain, drain_s=drain_s, ready=ready)
    with listening("127.0.0.1", 0) as listener:
        await server.serve([listener])
    happened.append("stopped")
    return happened, server


def test_the_first_signal_drains_and_then_stops_without_raising_it_again() -> None:
    happened, server = asyncio.run(stop(1))
    assert happened == ["ready", "draining", "drained", "stopped"]
    assert not server.force_exit


def test_a_drain_that_does_not_end_is_given_up() -> None:
    happened, server = asyncio.run(stop(1, drain_s=0.05))
    assert happened[-1] == "stopped"
    assert not server.force_exit


def test_the_second_signal_waits_for_nothing() -> None:
    happened, server = asyncio.run(stop(2))
    assert happened[-1] == "stopped"
    assert server.force_exit


def test_the_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(stop(1))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),  # noqa: S104  # asked about, not bound
        ("::", "http://[::1]:8080"),
        ("::1", "http://[::1]:8080"),
        ("cadenza.example", "http://cadenza.example:8080"),
    ],
)
def test_an_address_to_listen_on_becomes_one_to_call(host: str, url: str) -> None:
    assert url_of(host, 8080) == url

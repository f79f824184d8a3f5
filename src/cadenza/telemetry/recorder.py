"""Hands every event to every sink: the log, the metrics, a test's list."""

from collections.abc import Callable, Sequence

from cadenza.events import Event

Sink = Callable[[Event], None]
Record = Callable[[Event], None]


class Recorder:
    """A broken sink is told to `failed` and never breaks the work, nor the other sinks."""

    def __init__(
        self, sinks: Sequence[Sink], failed: Callable[[Exception], None] = lambda _error: None
    ) -> None:
        self._sinks, self._failed = tuple(sinks), failed

    def __call__(self, event: Event) -> None:
        """Hand one event to every sink."""
        for sink in self._sinks:
            try:
                sink(event)
            except Exception as error:  # noqa: BLE001  # whatever a sink does, the work goes on
                self._failed(error)

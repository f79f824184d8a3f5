"""Counters and gauges for Prometheus, fed by the same objects as the log.

Labels are channel, outcome, reason, version and variant, nothing else: an id in a label is a new
time series for ever. Drills have a counter of their own, so that they never move a live rate.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cadenza import events

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5, 10, 30)
FIRST_ENTRY_SECONDS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 12, 20, 30)


class Metrics:
    """One process's metrics, in a registry of their own."""

    def __init__(self, *, version: str) -> None:
        self._version = version
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "cadenza_http_requests", "Requests ended.", ["outcome"], registry=registry
        )
        self._request_seconds = Histogram(
            "cadenza_http_request_seconds",
            "Time to the end of requests that are no streams.",
            buckets=SECONDS,
            registry=registry,
        )
        labels = ["outcome", "reason", "variant", "version"]
        self._runs = Counter("cadenza_calendar_runs", "Runs ended.", labels, registry=registry)
        self._first_entry = Histogram(
            "cadenza_calendar_first_entry_seconds",
            "From the start of a run to its first stored entry.",
            buckets=FIRST_ENTRY_SECONDS,
            registry=registry,
        )
        self._streams = Counter(
            "cadenza_calendar_streams",
            "Streams ended.",
            ["outcome", "reason", "version"],
            registry=registry,
        )
        self._intents = Counter(
            "cadenza_publish_intents",
            "Publish intents ended.",
            ["channel", "outcome", "reason", "version"],
            registry=registry,
        )
        self._flag_changes = Counter(
            "cadenza_flag_changes", "Flag policies changed.", registry=registry
        )
        self._drills = Counter(
            "cadenza_drill_outcomes", "Outcomes of drills.", ["outcome"], registry=registry
        )
        self.dropped_fields = Counter(
            "cadenza_log_fields_dropped", "Log keys outside the contract.", registry=registry
        )
        Gauge("cadenza_build", "1, with the version.", ["version"], registry=registry).labels(
            version
        ).set(1)

    def __call__(self, event: events.Event) -> None:
        """Count one event."""
        outcome = event.verdict.value if event.verdict else "none"
        reason = event.reason.value if event.reason else "none"
        if isinstance(event, events.RequestFinished):
            self._request(event)
        elif event.lane is events.Lane.DRILL:
            self._drills.labels(outcome).inc()
        elif isinstance(event, events.RunFinished):
            self._run(event, outcome, reason)
        elif isinstance(event, events.StreamFinished):
            self._streams.labels(outcome, reason, self._version).inc()
        elif isinstance(event, events.IntentFinished):
            self._intents.labels(event.channel or "none", outcome, reason, self._version).inc()
        elif isinstance(event, events.FlagChanged):
            self._flag_changes.inc()

    def _request(self, event: events.RequestFinished) -> None:
        self._requests.labels(event.status).inc()
        if event.duration_ms is not None and event.run_id is None:
            self._request_seconds.observe(event.duration_ms / 1000)

    def _run(self, event: events.RunFinished, outcome: str, reason: str) -> None:
        self._runs.labels(outcome, reason, event.variant or "none", self._version).inc()
        if event.first_entry_ms is not None:
            self._first_entry.observe(event.first_entry_ms / 1000)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that asks `read` whenever it is scraped."""
        Gauge(f"cadenza_{name}", text, registry=self._registry).set_function(read)

    def page(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)

"""A visitor of a running Cadenza: asks as a user or an operator, and remembers what it asked."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
import orjson

from cadenza.errors import Invalid, Unavailable

HEALTH = "health"
"""The question that is counted and not logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request that was made: what the service must have logged of it."""

    request_id: str
    what: str
    status: int
    calendar_id: str | None = None
    run_id: str | None = None
    channel: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What a run's stream said, from the first frame to the terminal one."""

    request_id: str
    run_id: str
    variant: str
    entries: list[dict[str, Any]]
    done: dict[str, Any]


@dataclass(slots=True)
class Visit:
    """One visitor, with the canary user's token and an operator's."""

    client: httpx2.Client
    token: str = field(repr=False)
    operator_token: str = field(repr=False)
    drill: str | None = None
    asked: list[Asked] = field(default_factory=list[Asked])

    @property
    def user_id(self) -> str:
        """Return whose token it is; its signature is the service's to check."""
        return subject_of(self.token)

    def ask(
        self,
        method: str,
        path: str,
        *,
        what: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        **about: str | None,
    ) -> httpx2.Response:
        """Return the answer to the user's request, whatever its status."""
        answer = self._send(method, path, {**self._user_headers(), **(headers or {})}, body=body)
        self._remember(what, answer.headers["x-request-id"], answer.status_code, about)
        return answer

    def operate(self, method: str, path: str, *, body: object = None) -> dict[str, Any]:
        """Return the answer to the operator's request; raise Unavailable when it is refused."""
        sent = {"Authorization": f"Bearer {self.operator_token}"}
        answer = self._send(method, path, sent, body=body)
        if answer.is_error:
            raise Unavailable(f"{method} {path} answered {answer.status_code}: {answer.text[:300]}")
        found: dict[str, Any] = answer.json()
        return found

    def stream(self, calendar_id: str, order: Mapping[str, Any], *, what: str) -> Streamed:
        """Start a run and read its stream to the end.

        Raises Unavailable when there is no terminal frame: end of file without one is broken.
        """
        headers = {**self._user_headers(), "Accept": "text/event-stream"}
        path = f"/v1/calendars/{calendar_id}/runs"
        with self.client.stream("POST", path, json=order, headers=headers) as answer:
            text = answer.read().decode()
        if answer.is_error:
            raise Unavailable(f"POST {path} answered {answer.status_code}: {text[:300]}")
        frames = parse_frames(text)
        run = next((data for event, data in frames if event == "run"), None)
        done = next((data for event, data in frames if event == "done"), None)
        if run is None or done is None:
            raise Unavailable("The stream ended without a terminal frame")
        request_id = answer.headers["x-request-id"]
        channel = ",".join(sorted(order["channels"]))
        about = {"calendar_id": calendar_id, "run_id": run["runId"], "channel": channel}
        self._remember(what, request_id, answer.status_code, about)
        return Streamed(
            request_id=request_id,
            run_id=run["runId"],
            variant=run["variant"],
            entries=[data["entry"] for event, data in frames if event == "entry"],
            done=done,
        )

    def _user_headers(self) -> dict[str, str]:
        sent = {"Authorization": f"Bearer {self.token}", "X-Request-ID": f"smoke-{uuid4()}"}
        return sent if self.drill is None else sent | {"X-Cadenza-Drill": self.drill}

    def _send(
        self, method: str, path: str, headers: Mapping[str, str], *, body: object
    ) -> httpx2.Response:
        try:
            return self.client.request(method, path, json=body, headers=headers)
        except httpx2.TransportError as error:
            raise Unavailable(f"{method} {path}: {error or type(error).__name__}") from None

    def _remember(
        self, what: str, request_id: str, status: int, about: Mapping[str, str | None]
    ) -> None:
        self.asked.append(Asked(what=what, request_id=request_id, status=status, **about))


def subject_of(token: str) -> str:
    """Return the `sub` of a token, unverified; raise Invalid when it is no token."""
    try:
        payload = token.split(".")[1]
        claims: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(payload + "=="))
        return str(claims["sub"])
    except (IndexError, KeyError, TypeError, ValueError):
        raise Invalid("That is not a user's token") from None


def parse_frames(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (event, data) of every frame of a complete stream; comments are left out."""
    frames: list[tuple[str, dict[str, Any]]] = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        event, data = "message", list[str]()
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name == "event":
                event = value.strip()
            elif name == "data":
                data.append(value.removeprefix(" "))
        if data:
            frames.append((event, orjson.loads("\n".join(data))))
    return frames

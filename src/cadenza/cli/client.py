"""The command line as a client: where the service is, who asks, and what its refusals mean."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx2
import orjson

from cadenza.cli.home import read_development
from cadenza.errors import CadenzaError, Mistake, Unavailable
from cadenza.settings import read_settings

HERE: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 15.0
_URL, _TOKEN = "CADENZA_URL", "CADENZA_OPERATOR_TOKEN"


@dataclass(frozen=True, slots=True)
class Target:
    """Which service is asked, and the operator's token for it."""

    url: str
    operator_token: str | None = field(repr=False)


def find_target(environment: Mapping[str, str] | None = None) -> Target:
    """Return what CADENZA_URL and CADENZA_OPERATOR_TOKEN say, else what `up` left in the home.

    A development token is only ever sent to the instance that it was made for.
    """
    environment = os.environ if environment is None else environment  # noqa: TID251  # the edge
    development = read_development(read_settings(environment).home)
    url = environment.get(_URL) or (development.url if development else HERE)
    token = environment.get(_TOKEN)
    if not token and development and development.url == url.rstrip("/"):
        token = development.operator_token
    return Target(url.rstrip("/"), token or None)


def operate(
    method: str,
    path: str,
    *,
    body: object = None,
    target: Target | None = None,
    headers: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the decoded answer of the service to its operator.

    Raises Unavailable when the service cannot be reached or says 503, CadenzaError with the
    service's own words for every other refusal.
    """
    target = target or find_target()
    if target.operator_token is None:
        raise Unavailable(
            f"{target.url} wants an operator: set {_TOKEN}, or run this where `cadenza up` was "
            "started (CADENZA_HOME)"
        )
    sent = {"Authorization": f"Bearer {target.operator_token}", **(headers or {})}
    try:
        with httpx2.Client(base_url=target.url, timeout=TIMEOUT_S) as client:
            answer = client.request(method, path, json=body, headers=sent)
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise unreachable(target.url, error) from None
    if answer.is_error:
        raise refusal(answer.status_code, answer.content)
    return _decoded(answer.content)


def unreachable(url: str, error: Exception) -> Unavailable:
    """Return what a person is told when nobody answers at this address."""
    why = str(error) or type(error).__name__
    return Unavailable(f"Nothing answers at {url} ({why}). Is it running? Start it, or set {_URL}")


def refusal(status: int, content: bytes) -> CadenzaError:
    """Return a problem document as an error whose text says what happened and what to do."""
    problem = _decoded(content)
    title = str(problem.get("title") or f"The service answered {status}")
    detail = str(problem.get("detail") or "")
    told = f"{title}: {detail}" if detail and detail != title else title
    extra = {key: problem[key] for key in ("code", "requestId", "playbook") if problem.get(key)}
    kind = Unavailable if status >= 500 else CadenzaError  # noqa: PLR2004
    return kind(told, code=str(problem.get("code") or ""), mistakes=_mistakes(problem), extra=extra)


def _decoded(content: bytes) -> dict[str, Any]:
    try:
        found: object = orjson.loads(content)
    except ValueError:
        found = None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _mistakes(problem: Mapping[str, Any]) -> list[Mistake]:
    listed: list[Mapping[str, Any]] = problem.get("errors") or []
    return [
        Mistake(pointer=str(m.get("pointer")), code=str(m.get("code")), fix=str(m.get("fix")))
        for m in listed
    ]

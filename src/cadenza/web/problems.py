"""Every refusal as one kind of document: RFC 9457, with a code to branch on and a fix to act on."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cadenza import errors
from cadenza.errors import CadenzaError
from cadenza.telemetry import context
from cadenza.web.mistakes import MOST_SHOWN, mistakes_in, sentence

MEDIA_TYPE = "application/problem+json"
DEFAULT_RETRY_AFTER_S = 5

STATUS_OF: dict[type[CadenzaError], int] = {
    errors.Invalid: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.PreconditionMissing: 428,
    errors.TooLarge: 413,
    errors.RateLimited: 429,
    errors.Unavailable: 503,
}
_TITLE_OF: dict[int, str] = {
    400: "The request cannot be read",
    401: "A valid token is needed",
    403: "The token does not give this right",
    404: "Not found",
    405: "The address does not know this method",
    409: "The present state does not allow this",
    410: "Kept no longer",
    413: "The body is too large",
    422: "The request cannot be used",
    428: "If-Match is needed",
    429: "Too many requests",
    500: "Something broke on our side",
    503: "Not available right now",
}
_MAY_SUCCEED_LATER = (429, 503)

# code -> the page for operators. None is shipped yet, and a link to nothing helps nobody at night.
PLAYBOOK_OF: dict[str, str] = {}

# What the framework refuses by itself: code and detail.
_REFUSED: dict[int, tuple[str, str]] = {
    400: ("BAD_REQUEST", "The body cannot be read; send JSON in UTF-8"),
    404: ("ROUTE_NOT_FOUND", "There is nothing at this address"),
    405: ("METHOD_NOT_ALLOWED", "The Allow header names the methods of this address"),
    413: ("BODY_TOO_LARGE", "The body has more bytes than one request may carry"),
}


class _Wire(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class MistakeDocument(_Wire):
    """One mistake: where it is, what it is, how to mend it."""

    pointer: str
    code: str
    fix: str


class ProblemDocument(_Wire):
    """The members that every problem has; some codes add their own."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None
    retryable: bool
    playbook: str | None
    errors: list[MistakeDocument]


def _schema() -> dict[str, Any]:
    """Return the schema of any problem in one piece: references would lead out of a description."""
    schema = ProblemDocument.model_json_schema()
    schema["properties"]["errors"]["items"] = schema.pop("$defs")[MistakeDocument.__name__]
    return schema


# For `responses=` of routes: any refusal, as the API description shows it.
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    wanted: {
        "description": f"{who} (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": _schema()}},
    }
    for wanted, who in (("4XX", "The request was refused"), ("5XX", "Not now, or our fault"))
}


def status_of(error: CadenzaError) -> int:
    """Return the status that an error answers; an error outside the tree is our fault."""
    return next((STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF), 500)


def describe(
    error: CadenzaError, *, request_id: str | None, public_url: str | None
) -> dict[str, object]:
    """Return the problem document of an error; `public_url` is where the playbook's pages are."""
    status = status_of(error)
    title = _TITLE_OF[status]
    if error.mistakes:
        plural = "s" if len(error.mistakes) > 1 else ""
        title = f"The request has {len(error.mistakes)} mistake{plural}"
    return {
        **error.extra,
        **_fixed(status, title, error.detail, error.code, request_id=request_id),
        "retryable": status in _MAY_SUCCEED_LATER or error.retry_after_s is not None,
        "playbook": _playbook(error.code, public_url),
        "errors": [
            {"pointer": mistake.pointer, "code": mistake.code, "fix": mistake.fix}
            for mistake in error.mistakes[:MOST_SHOWN]
        ],
    }


def answer(error: CadenzaError, *, public_url: str | None) -> Response:
    """Return the response for an error, and note its code for the request's canonical line."""
    now = context.current()
    now.code = error.code
    status = status_of(error)
    headers: dict[str, str] = {}
    if error.retry_after_s is not None or status in _MAY_SUCCEED_LATER:
        headers["retry-after"] = str(error.retry_after_s or DEFAULT_RETRY_AFTER_S)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return _respond(describe(error, request_id=now.request_id, public_url=public_url), headers)


def answer_unexpected() -> Response:
    """Return the response for an exception that nobody expected; it says nothing of it."""
    return answer(CadenzaError("The log line of this request says more"), public_url=None)


def install(app: FastAPI, *, public_url: str | None) -> None:
    """Make every refusal of this application a problem document."""

    async def raised(_: Request, error: Exception) -> Response:
        return answer(cast("CadenzaError", error), public_url=public_url)

    async def invalid(request: Request, error: Exception) -> Response:
        found = cast("RequestValidationError", error).errors()
        mistakes = mistakes_in(found, _body_of(request))
        refusal = errors.Invalid(sentence(mistakes), mistakes=mistakes)
        return answer(refusal, public_url=public_url)

    async def refused(_: Request, error: Exception) -> Response:
        return _answer_refused(cast("HTTPException", error))

    async def unexpected(_: Request, _error: Exception) -> Response:
        return answer_unexpected()

    app.add_exception_handler(CadenzaError, raised)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(Exception, unexpected)


def _answer_refused(error: HTTPException) -> Response:
    """Return the response for what the framework refused; its own words may quote the request."""
    phrase = HTTPStatus(error.status_code).phrase
    code, detail = _REFUSED.get(
        error.status_code, (phrase.upper().replace(" ", "_").replace("-", "_"), phrase)
    )
    now = context.current()
    now.code = code
    title = _TITLE_OF.get(error.status_code, phrase)
    document: dict[str, object] = {
        **_fixed(error.status_code, title, detail, code, request_id=now.request_id),
        "retryable": False,
        "playbook": None,
        "errors": [],
    }
    return _respond(document, dict(error.headers or {}))


def _fixed(
    status: int, title: str, detail: str, code: str, *, request_id: str | None
) -> dict[str, object]:
    return {
        "type": f"urn:cadenza:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "requestId": request_id,
    }


def _playbook(code: str, public_url: str | None) -> str | None:
    slug = PLAYBOOK_OF.get(code)
    return f"{public_url.rstrip('/')}/runbook/{slug}" if slug and public_url else None


def _respond(document: Mapping[str, object], headers: dict[str, str]) -> Response:
    return Response(
        _encoded(document),
        status_code=cast("int", document["status"]),
        headers={**headers, "cache-control": "no-store"},
        media_type=MEDIA_TYPE,
    )


def _encoded(document: Mapping[str, object]) -> bytes:
    """Return JSON in valid UTF-8, even where a pointer repeats a name that is none."""
    try:
        return orjson.dumps(document)
    except TypeError:  # half a surrogate pair
        return json.dumps(document, ensure_ascii=False).encode(errors="replace")


def _body_of(request: Request) -> object:
    """Return the annotation of the route's body, to know which fields there are."""
    field = getattr(request.scope.get("route"), "body_field", None)
    return getattr(getattr(field, "field_info", None), "annotation", None)

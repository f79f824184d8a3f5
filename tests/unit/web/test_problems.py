"""Every refusal is a problem document, whoever refuses, and none says what was sent."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Header, Query
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ErrorType

from cadenza import errors
from cadenza.errors import CadenzaError, Conflict, Invalid, Mistake
from cadenza.telemetry.context import Context, entered
from cadenza.web import mistakes
from cadenza.web.problems import DOCUMENTED, STATUS_OF, describe, install, status_of

EXAMPLE = Path(__file__).parents[3] / "docs" / "reference" / "examples" / "problem.json"
PUBLIC_URL = "https://cadenza.example/"
SOME_ID = "0192f3c4-7e1b-7c3a-9f00-000000000001"
SECRET = "hunter2-do-not-echo"  # noqa: S105  planted, to be looked for in the answer

Document = dict[str, Any]


class Cadence(StrEnum):
    DAILY = "daily"
    WEEKLY = "weekly"


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class EntryBody(Wire):
    entry_id: UUID | None = None
    title: str = Field(default="", max_length=5)
    wall: time | None = None
    at: datetime | None = None
    link: HttpUrl | None = None
    tags: Annotated[list[str], Field(max_length=2)] = []
    kind: Literal["post", "reel"] = "post"


class RunBody(Wire):
    cadence: Cadence
    start: date = date(2026, 12, 1)
    entries: list[EntryBody] = []
    first: EntryBody | None = None
    count: int = Field(default=1, ge=1)
    either: int | str = 1
    labels: dict[str, int] = {}
    zone: str = "UTC"
    brief: str = ""

    @field_validator("zone")
    @classmethod
    def known(cls, zone: str) -> str:
        if zone != "UTC":
            raise PydanticCustomError("unknown_timezone", "Use an IANA zone")
        return zone

    @field_validator("brief")
    @classmethod
    def clumsy(cls, brief: str) -> str:
        if brief:
            raise ValueError("I was given " + brief)
        return brief


class Answer:
    def __init__(self, response: httpx.Response, context: Context) -> None:
        self.response = response
        self.context = context
        self.document: Document = response.json()

    def mistakes(self) -> dict[str, tuple[str, str]]:
        return {m["pointer"]: (m["code"], m["fix"]) for m in self.document["errors"]}


def app_that_raises(error: Exception | None = None) -> FastAPI:
    app = FastAPI()
    install(app, public_url=PUBLIC_URL)
    router = APIRouter()

    @router.post("/runs/{calendar_id}")
    async def runs(  # pyright: ignore[reportUnusedFunction]
        calendar_id: UUID,
        body: RunBody,
        limit: Annotated[int, Query(ge=1)] = 1,
        if_match: Annotated[int | None, Header()] = None,
    ) -> None:
        del calendar_id, body, limit, if_match

    @router.get("/raises")
    async def raises() -> None:  # pyright: ignore[reportUnusedFunction]
        if error is not None:
            raise error

    app.include_router(router, prefix="/v1")
    return app


def ask(method: str, path: str, *, error: Exception | None = None, **request: Any) -> Answer:
    async def story() -> Answer:
        context = Context(request_id="request-1234")
        transport = httpx.ASGITransport(app_that_raises(error), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            with entered(context):
                return Answer(await client.request(method, path, **request), context)

    return asyncio.run(story())


def post(body: Mapping[str, object], path: str = f"/v1/runs/{SOME_ID}", **more: Any) -> Answer:
    return ask("POST", path, json=body, **more)


def every_error() -> Iterator[type[CadenzaError]]:
    pending = [CadenzaError]
    while pending:
        kind = pending.pop()
        yield kind
        pending += kind.__subclasses__()


def test_the_statuses_are_those_drawn_in_the_tree() -> None:
    drawn = {
        line.split()[1]: int(line.split()[-1])
        for line in (errors.__doc__ or "").splitlines()
        if line.startswith(("|- ", "`- "))
    }
    assert {kind.__name__: status for kind, status in STATUS_OF.items()} == drawn


@pytest.mark.parametrize("kind", list(every_error()), ids=lambda kind: kind.__name__)
def test_every_error_has_an_answer_a_title_and_its_code_in_the_canonical_line(
    kind: type[CadenzaError],
) -> None:
    answer = ask("GET", "/v1/raises", error=kind("Because of the test"))
    assert answer.response.status_code == answer.document["status"] == status_of(kind("x"))
    assert answer.response.headers["content-type"] == "application/problem+json"
    assert answer.response.headers["cache-control"] == "no-store"
    assert answer.document["type"] == f"urn:cadenza:problem:{kind.code}"
    assert answer.document["detail"] == "Because of the test"
    assert answer.document["requestId"] == "request-1234"
    assert answer.document["title"]
    assert answer.context.code == answer.document["code"] == kind.code


def test_a_problem_is_the_contracts_example() -> None:
    example: Document = json.loads(EXAMPLE.read_text())
    error = Invalid("end is before start", mistakes=[Mistake(**example["errors"][0])])
    assert describe(error, request_id=example["requestId"], public_url=None) == example


def test_extra_members_are_added_and_replace_none_of_the_contract() -> None:
    error = Conflict(
        "A run is active",
        code="RUN_IN_PROGRESS",
        extra={"runId": UUID(SOME_ID), "status": "mine", "code": "mine"},
    )
    document = ask("GET", "/v1/raises", error=error).document
    assert (document["runId"], document["status"], document["code"]) == (
        SOME_ID,
        409,
        "RUN_IN_PROGRESS",
    )


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (errors.RateLimited("x", retry_after_s=30), "30"),
        (errors.Unavailable("x"), "5"),
        (errors.DatabaseUnavailable(), "2"),
        (Conflict("x", retry_after_s=1), "1"),
        (Conflict("x"), None),
        (CadenzaError("x"), None),
    ],
    ids=repr,
)
def test_what_may_succeed_later_says_when(error: CadenzaError, seconds: str | None) -> None:
    answer = ask("GET", "/v1/raises", error=error)
    assert answer.response.headers.get("retry-after") == seconds
    assert answer.document["retryable"] is (seconds is not None)


def test_a_missing_token_is_told_how_to_be_sent() -> None:
    answer = ask("GET", "/v1/raises", error=errors.Unauthenticated("No token"))
    assert answer.response.headers["www-authenticate"] == "Bearer"


def test_no_code_links_to_a_page_that_is_not_there_yet() -> None:
    answer = ask("GET", "/v1/raises", error=errors.DatabaseUnavailable())
    assert answer.document["playbook"] is None


def test_an_unexpected_exception_says_nothing_of_itself() -> None:
    answer = ask("GET", "/v1/raises", error=RuntimeError(SECRET))
    assert answer.response.status_code == 500
    assert answer.document["code"] == answer.context.code == "INTERNAL"
    assert answer.document["retryable"] is False
    assert SECRET not in answer.response.text


def test_an_unknown_address_is_a_problem_too() -> None:
    answer = ask("GET", f"/{SECRET}")
    assert (answer.response.status_code, answer.document["code"]) == (404, "ROUTE_NOT_FOUND")
    assert answer.context.code == "ROUTE_NOT_FOUND"
    assert SECRET not in answer.response.text


def test_a_wrong_method_names_the_right_ones() -> None:
    answer = ask("DELETE", "/v1/raises")
    assert (answer.response.status_code, answer.document["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.response.headers["allow"] == "GET"


def test_a_body_that_cannot_be_read_is_a_problem_too() -> None:
    answer = ask(
        "POST",
        f"/v1/runs/{SOME_ID}",
        content=b"\xff\xfe{",
        headers={"content-type": "application/json"},
    )
    assert (answer.response.status_code, answer.document["code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    ("body", "pointer", "code", "fix"),
    [
        ({"cadense": SECRET}, "/cadense", "UNKNOWN_FIELD", "Use cadence, or remove it"),
        ({"entries": [{"titles": SECRET}]}, "/entries/0/titles", "UNKNOWN_FIELD", "Use title, or"),
        ({"first": {"entryid": 1}}, "/first/entryid", "UNKNOWN_FIELD", "Use entryId, or remove it"),
        ({"x/y~z": 1}, "/x~1y~0z", "UNKNOWN_FIELD", "Remove it; the fields here are cadence, "),
        ({}, "/cadence", "MISSING", "Add it"),
        ({"cadence": SECRET}, "/cadence", "NOT_ALLOWED", "Use 'daily' or 'weekly'"),
        ({"entries": [{"kind": SECRET}]}, "/entries/0/kind", "NOT_ALLOWED", "Use 'post' or 'reel'"),
        ({"start": SECRET}, "/start", "BAD_DATE", "Use a date such as 2026-12-01"),
        ({"first": {"wall": SECRET}}, "/first/wall", "BAD_TIME", "Use a wall time such as 09:00"),
        ({"first": {"at": SECRET}}, "/first/at", "BAD_INSTANT", "Use an instant such as"),
        ({"first": {"link": SECRET}}, "/first/link", "BAD_URL", "Use a URL such as"),
        ({"first": {"link": "x:y"}}, "/first/link", "BAD_URL", "Use a URL that begins with"),
        ({"first": {"entryId": SECRET}}, "/first/entryId", "BAD_UUID", "Use a UUID"),
        ({"first": {"title": SECRET}}, "/first/title", "TOO_LONG", "Use at most 5 characters"),
        ({"first": {"tags": ["", "", ""]}}, "/first/tags", "TOO_MANY", "Use at most 2 items"),
        ({"first": SECRET}, "/first", "WRONG_TYPE", "Use an object"),
        ({"entries": SECRET}, "/entries", "WRONG_TYPE", "Use a list"),
        ({"count": SECRET}, "/count", "WRONG_TYPE", "Use a whole number"),
        ({"count": 0}, "/count", "OUT_OF_RANGE", "Use 1 or more"),
        ({"either": []}, "/either", "WRONG_TYPE", "Use a whole number"),
        ({"labels": {"a/b": SECRET}}, "/labels/a~1b", "WRONG_TYPE", "Use a whole number"),
        ({"zone": SECRET}, "/zone", "UNKNOWN_TIMEZONE", "Use an IANA zone"),
        ({"brief": SECRET}, "/brief", "INVALID", "Use a value that this field accepts"),
    ],
)
def test_a_mistake_is_placed_named_and_mended_without_saying_what_was_sent(
    body: dict[str, object], pointer: str, code: str, fix: str
) -> None:
    complete = body if code == "MISSING" else {"cadence": "daily", **body}
    answer = post(complete)
    assert answer.response.status_code == 422
    assert answer.document["code"] == answer.context.code == "VALIDATION_ERROR"
    assert list(answer.mistakes()) == [pointer]
    assert answer.mistakes()[pointer][0] == code
    assert answer.mistakes()[pointer][1].startswith(fix)
    assert answer.document["title"] == "The request has 1 mistake"
    assert answer.document["detail"].startswith(pointer)
    assert SECRET not in answer.response.text


def test_mistakes_outside_the_body_are_named_too() -> None:
    answer = post({"cadence": "daily"}, f"/v1/runs/{SECRET}?limit=0", headers={"if-match": SECRET})
    assert {pointer: code for pointer, (code, _) in answer.mistakes().items()} == {
        "/calendarId": "BAD_UUID",
        "/limit": "OUT_OF_RANGE",
        "/if-match": "WRONG_TYPE",
    }
    assert answer.document["title"] == "The request has 3 mistakes"
    assert answer.document["detail"] == "/calendarId is not a UUID, and 2 more"
    assert SECRET not in answer.response.text


@pytest.mark.parametrize(
    ("content", "content_type", "code", "fix"),
    [
        (b'{"a": ' + SECRET.encode(), "application/json", "BAD_JSON", "it breaks at character 6"),
        (b"[]", "application/json", "WRONG_TYPE", "Send a JSON object, with Content-Type"),
        (b'{"cadence":"daily"}', "text/plain", "WRONG_TYPE", "Send a JSON object, with"),
        (b"", "application/json", "MISSING", "Add it"),
    ],
)
def test_a_body_that_is_no_json_object_is_told_so(
    content: bytes, content_type: str, code: str, fix: str
) -> None:
    headers = {"content-type": content_type}
    answer = ask("POST", f"/v1/runs/{SOME_ID}", content=content, headers=headers)
    assert answer.response.status_code == 422
    assert answer.mistakes()[""][0] == code
    assert fix in answer.mistakes()[""][1]
    assert answer.document["detail"].startswith("The body ")
    assert SECRET not in answer.response.text


def test_very_many_mistakes_are_counted_and_the_first_ones_shown() -> None:
    answer = post({"cadence": "daily", "entries": [{"kind": SECRET}] * 200})
    assert answer.document["title"] == "The request has 200 mistakes"
    assert len(answer.document["errors"]) == mistakes.MOST_SHOWN


def test_a_very_long_name_is_cut() -> None:
    answer = post({"cadence": "daily", "x" * 5_000: 1})
    assert list(answer.mistakes()) == ["/" + "x" * 80]


def test_every_advice_is_about_an_error_that_pydantic_knows() -> None:
    assert set(mistakes.FIXES) <= set(ErrorType.__args__)


def test_the_api_description_shows_refusals_as_problems() -> None:
    app = FastAPI(responses=DOCUMENTED)

    @app.get("/x")
    async def x(limit: int) -> None:  # pyright: ignore[reportUnusedFunction]
        del limit

    responses = app.openapi()["paths"]["/x"]["get"]["responses"]
    assert set(responses) == {"200", "4XX", "5XX"}
    schema = responses["4XX"]["content"]["application/problem+json"]["schema"]
    example: Document = json.loads(EXAMPLE.read_text())
    assert set(schema["properties"]) == set(schema["required"]) == set(example)

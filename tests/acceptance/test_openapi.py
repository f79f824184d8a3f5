"""The API describes itself, and keeps to what it says whatever is thrown at it."""

from collections.abc import Generator
from typing import Any
from uuid import uuid4

import pytest
import requests
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis import checks as general
from schemathesis.specs.openapi import checks as conformance

from cadenza.web import calendars, flags, health, publish, runs
from served import ENTRY, Json, Person, Served

GENERAL: Any = general  # whose functions are typed in part
AS_DESCRIBED: Any = conformance
CHECKS: Any = [
    GENERAL.not_a_server_error,
    AS_DESCRIBED.status_code_conformance,
    AS_DESCRIBED.content_type_conformance,
    AS_DESCRIBED.response_schema_conformance,
]
EXAMPLES = 8
SLOW_IS_FINE: Any = list(HealthCheck)
IS_HONESTLY_503 = "/healthz/publishing"


def operations() -> list[tuple[str, str]]:
    """Return every method and path there is, before anything is served."""
    app = FastAPI()
    for part in (health, calendars, runs, publish, flags):
        app.include_router(part.router)
    return [(method, path) for path, item in app.openapi()["paths"].items() for method in item]


@pytest.fixture(scope="module")
def description(shared: Served) -> Any:
    """The description, as a client that tests by it reads it."""
    return schemathesis.openapi.from_url(f"{shared.url}/openapi.json")


@pytest.fixture(scope="module")
def user(shared: Served) -> Person:
    """Somebody with things that can be hit."""
    return shared.user()


@pytest.fixture(scope="module")
def there(user: Person) -> dict[str, str]:
    """Ids that exist."""
    calendar = user.saved(ENTRY, {**ENTRY, "date": "2027-03-02"})
    path = f"/v1/calendars/{calendar['id']}/publish"
    answer = user.ask("POST", path, {}, Idempotency_Key=str(uuid4()))
    return {
        "calendar_id": calendar["id"],
        "entry_id": calendar["entries"][0]["id"],
        "run_id": user.run(end="2027-03-01").run_id,
        "intent_id": answer.json()["results"][0]["intentId"],
        "key": "publish",
    }


@pytest.fixture(scope="module")
def session() -> Generator[requests.Session]:
    """Connections that are closed in the end."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_it_is_a_valid_description_of_every_route(shared: Served, description: Any) -> None:
    description.validate()
    raw: Json = description.raw_schema
    assert raw["info"] == {"title": "Cadenza", "version": shared.runtime.version}
    assert {(m, p) for p, item in raw["paths"].items() for m in item} == set(operations())
    for path, item in raw["paths"].items():
        for method, operation in item.items():
            scheme = "user" if path.startswith("/v1") else "operator"
            wanted: list[dict[str, list[str]]] | None = (
                [{scheme: []}] if path.startswith(("/v1", "/ops")) else None
            )
            assert operation.get("security") == wanted, (method, path)
            problem = operation["responses"]["4XX"]["content"]["application/problem+json"]
            assert "requestId" in problem["schema"]["required"]


# The served threads draw from `random` too, which hypothesis takes for the strategy's doing.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize(("method", "path"), operations(), ids=lambda part: part)
def test_whatever_is_sent_the_answer_is_one_that_is_described(
    shared: Served, description: Any, method: str, path: str, request: pytest.FixtureRequest
) -> None:
    session: requests.Session = request.getfixturevalue("session")
    user: Person = request.getfixturevalue("user")
    there: dict[str, str] = request.getfixturevalue("there")
    token = shared.operator_tokens["ana"] if path.startswith("/ops") else user.token
    operation = description[path][method.upper()]
    checks = CHECKS[1:] if path == IS_HONESTLY_503 else CHECKS
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @given(case=cases, is_there=st.booleans())
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=SLOW_IS_FINE,
    )
    def ask(case: Any, *, is_there: bool) -> None:
        if is_there:
            known = {name: there[name] for name in case.path_parameters if name in there}
            case.path_parameters = {**case.path_parameters, **known}
        answer = case.call(session=session, headers={"Authorization": f"Bearer {token}"})
        case.validate_response(answer, checks=checks)
        assert answer.headers["x-request-id"]

    ask()

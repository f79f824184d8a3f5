"""Whose token it is, and every way a token is none."""

import asyncio
import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import Depends, FastAPI

from cadenza.errors import Forbidden, Invalid, Unauthenticated
from cadenza.telemetry.context import Context, entered
from cadenza.web import problems
from cadenza.web.auth import (
    OperatorRecord,
    Operators,
    Role,
    User,
    Verifier,
    issue_token,
    require_operator,
    require_user,
    require_viewer,
    token_sha256,
)

KEY = "a secret of tests, long enough for HS256"
ISSUER = "https://ref.supabase.co/auth/v1"
AUDIENCE = "authenticated"
NOW = datetime(2026, 11, 23, 9, 14, 7, tzinfo=UTC)
AT = int(NOW.timestamp())
ALICE = "9750dcc2-516e-5ea0-8a26-54fa6ff6986b"
NO_CLAIM = object()
VERIFIER = Verifier(secret=KEY, issuer=ISSUER, audience=AUDIENCE, clock=lambda: NOW)


def encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def signed(header: object, claims: object, *, secret: str = KEY, digest: str = "sha256") -> str:
    """Sign by hand: a library would refuse to make most of these."""
    body = b".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    signature = hmac.new(secret.encode(), body, digest).digest()
    return (body + b"." + encoded(signature)).decode()


def claims(**changed: object) -> dict[str, object]:
    every: dict[str, object] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": ALICE,
        "role": "authenticated",
        "iat": AT,
        "exp": AT + 3600,
    }
    return {key: value for key, value in (every | changed).items() if value is not NO_CLAIM}


def token(*, alg: object = "HS256", secret: str = KEY, **changed: object) -> str:
    return signed({"alg": alg, "typ": "JWT"}, claims(**changed), secret=secret)


def without_signature(text: str) -> str:
    return text.rpartition(".")[0] + "."


GENUINE = {
    "fresh": token(),
    "with an audience among several": token(aud=["other", AUDIENCE]),
    "with claims we do not know": token(email="a@example.org", app_metadata={"x": [1]}),
    "just expired, within the leeway": token(exp=AT - 29),
    "made a little in the future": token(iat=AT + 29, nbf=AT + 29),
    "without iat": token(iat=NO_CLAIM),
    "with a fraction of a second": token(exp=AT + 0.5),
    "of a user written in capitals": token(sub=ALICE.upper()),
}
REFUSED = {
    "nothing": "",
    "no token": "hello",
    "two parts": "a.b",
    "five parts": "a.b.c.d.e",
    "not base64": "%%%.%%%.%%%",
    "beyond latin": "é.é.é",
    "header no object": signed([], claims()),
    "payload no object": signed({"alg": "HS256"}, []),
    "payload no JSON": token().split(".")[0] + "." + encoded(b"{").decode() + ".AAAA",
    "forged": token(secret=KEY[::-1]),
    "signed with nothing": token(secret=""),
    "signature cut off": without_signature(token()),
    "payload swapped": ".".join(
        [
            token().split(".")[0],
            token(sub="11111111-1111-4111-8111-111111111111").split(".")[1],
            token().split(".")[2],
        ]
    ),
    "alg none": without_signature(token(alg="none")),
    "alg None": without_signature(token(alg="None")),
    "alg none, signed": token(alg="none"),
    "alg RS256 over our secret": token(alg="RS256"),
    "alg HS512": signed({"alg": "HS512"}, claims(), digest="sha512"),
    "alg missing": signed({"typ": "JWT"}, claims()),
    "alg a number": token(alg=256),
    "unknown critical extension": signed({"alg": "HS256", "crit": ["x"], "x": 1}, claims()),
    "detached payload": signed({"alg": "HS256", "b64": False, "crit": ["b64"]}, claims()),
    "expired": token(exp=AT - 31),
    "long expired": token(exp=1),
    "no exp": token(exp=NO_CLAIM),
    "exp null": token(exp=None),
    "exp a word": token(exp="tomorrow"),
    "exp a number in a string": token(exp=str(AT + 60)),
    "exp true": token(exp=True),
    "exp infinite": token(exp=float("inf")),
    "exp no number": token(exp=float("nan")),
    "not valid yet": token(nbf=AT + 60),
    "made in the future": token(iat=AT + 60),
    "other issuer": token(iss="https://evil.example/auth/v1"),
    "issuer with a tail": token(iss=ISSUER + "/"),
    "no issuer": token(iss=NO_CLAIM),
    "issuer a list": token(iss=[ISSUER]),
    "other audience": token(aud="anon"),
    "audience missing": token(aud=NO_CLAIM),
    "audience empty": token(aud=[]),
    "no sub": token(sub=NO_CLAIM),
    "sub no UUID": token(sub="alice"),
    "sub a number": token(sub=7),
    "sub with braces": token(sub="{" + ALICE + "}"),
    "sub without hyphens": token(sub=UUID(ALICE).hex),
    "sub as urn": token(sub=f"urn:uuid:{ALICE}"),
    "too long": token(padding="x" * 9000),
}
OTHER_ROLES: dict[str, object] = {
    "service_role": "service_role",
    "anon": "anon",
    "an operator's word": "operator",
    "in capitals": "Authenticated",
    "empty": "",
    "none": None,
    "missing": NO_CLAIM,
    "a list": ["authenticated"],
}


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_token_names_its_user(name: str) -> None:
    assert VERIFIER.user(GENUINE[name]) == User(ALICE)


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_without_quoting_it(name: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        VERIFIER.user(REFUSED[name])
    told = refused.value.detail + repr(refused.value.extra)
    assert all(part not in told for part in REFUSED[name].split(".") if len(part) > 3)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", OTHER_ROLES)
def test_a_genuine_token_of_another_role_is_forbidden(name: str) -> None:
    with pytest.raises(Forbidden):
        VERIFIER.user(token(role=OTHER_ROLES[name]))


def test_what_is_refused_says_which_kind_of_trouble() -> None:
    details: dict[str, str] = {}
    for name in ("expired", "not valid yet", "other issuer", "forged", "sub no UUID"):
        with pytest.raises(Unauthenticated) as refused:
            VERIFIER.user(REFUSED[name])
        details[name] = refused.value.detail
    assert len(set(details.values())) == len(details)


def test_an_issued_token_is_accepted_until_it_expires() -> None:
    issued = issue_token(secret=KEY, issuer=ISSUER, audience=AUDIENCE, sub=ALICE, ttl_s=60, now=NOW)
    assert VERIFIER.user(issued) == User(ALICE)
    late = Verifier(
        secret=KEY,
        issuer=ISSUER,
        audience=AUDIENCE,
        clock=lambda: NOW + timedelta(seconds=90),
    )
    with pytest.raises(Unauthenticated):
        late.user(issued)


@pytest.mark.parametrize("secret", ["", "short", "é" * 15])
def test_a_secret_too_short_for_the_algorithm_is_no_secret(secret: str) -> None:
    with pytest.raises(Invalid):
        Verifier(secret=secret, issuer=ISSUER, audience=AUDIENCE)


def test_the_secret_does_not_show() -> None:
    assert KEY not in repr(VERIFIER)


def application() -> FastAPI:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    app.state.verifier = VERIFIER
    app.state.operators = Operators(
        [
            OperatorRecord(name="ana", token_sha256=token_sha256("ana-token"), role=Role.OPERATOR),
            OperatorRecord(name="eva", token_sha256=token_sha256("eva-token"), role=Role.VIEWER),
        ]
    )
    problems.install(app, public_url=None)

    @app.get("/mine")
    async def mine(user: Annotated[User, Depends(require_user)]) -> str:
        return user.id

    @app.get("/ops", dependencies=[Depends(require_viewer)])
    async def look() -> str:
        return "seen"

    @app.post("/ops", dependencies=[Depends(require_operator())])
    async def change() -> str:
        return "changed"

    assert all(callable(route) for route in (mine, look, change))
    return app


def asked(method: str, path: str, *headers: tuple[str, str]) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=application())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=list(headers))

    return asyncio.run(main())


def bearer(text: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {text}")


def test_a_request_is_its_tokens_user_and_the_log_knows() -> None:
    with entered(Context()) as about:
        response = asked("GET", "/mine", ("authorization", f"bearer  {GENUINE['fresh']}"))
    assert (response.status_code, response.json()) == (200, ALICE)
    assert about.user_id == ALICE


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-user-id", ALICE)],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", f"Basic {GENUINE['fresh']}")],
        [("authorization", GENUINE["fresh"])],
        [bearer(GENUINE["fresh"]), bearer(GENUINE["fresh"])],
        [bearer("ana-token")],
    ],
)
def test_a_request_without_one_valid_token_is_nobodys(headers: list[tuple[str, str]]) -> None:
    with entered(Context()) as about:
        response = asked("GET", "/mine", *headers)
    assert (response.status_code, response.json()["code"]) == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"
    assert about.user_id is None


def test_the_service_role_is_no_user() -> None:
    response = asked("GET", "/mine", bearer(token(role="service_role")))
    assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("method", "given", "status"),
    [
        ("GET", "ana-token", 200),
        ("POST", "ana-token", 200),
        ("GET", "eva-token", 200),
        ("POST", "eva-token", 403),
        ("GET", "ANA-token", 401),
        ("GET", token_sha256("ana-token"), 401),
        ("GET", GENUINE["fresh"], 401),
        ("POST", GENUINE["fresh"], 401),
        ("GET", token(role="operator"), 401),
        ("GET", "", 401),
    ],
)
def test_operators_come_by_their_own_token_and_viewers_only_look(
    method: str, given: str, status: int
) -> None:
    assert asked(method, "/ops", bearer(given)).status_code == status


def test_the_api_description_names_both_kinds_of_token() -> None:
    described: dict[str, Any] = application().openapi()
    assert set(described["components"]["securitySchemes"]) == {"user", "operator"}
    assert described["paths"]["/mine"]["get"]["security"] == [{"user": []}]
    assert described["paths"]["/ops"]["post"]["security"] == [{"operator": []}]

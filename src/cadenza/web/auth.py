"""Who is asking: a user by their token from Supabase, or an operator by a token of their own.

The two never mix: a user's token is no operator's, and an operator's opens no user route. Nothing
else is believed, no header such as `x-user-id` and nothing a token says about its own algorithm.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from starlette.types import Scope

from cadenza.errors import CadenzaError, Forbidden, Invalid, Unauthenticated
from cadenza.telemetry.context import current
from cadenza.web.operators import (
    Operator,
    OperatorRecord,
    Operators,
    Role,
    read_operators,
    token_sha256,
)

__all__ = [
    "Operator",
    "OperatorRecord",
    "Operators",
    "Role",
    "User",
    "Verifier",
    "issue_token",
    "read_operators",
    "require_operator",
    "require_user",
    "require_viewer",
    "token_sha256",
    "user_id_in",
]

ALGORITHM: Final = "HS256"
LEEWAY_S: Final = 30.0
TOKEN_BYTES: Final = 8192
SECRET_BYTES: Final = 32
_ROLE = "authenticated"
_CHECKED_HERE: Any = {  # by our own clock
    "require": ["iss", "aud", "exp", "sub"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
}
# For the OpenAPI document only: what they would let through is checked here, more strictly.
_USER_DOC = HTTPBearer(auto_error=False, scheme_name="user", bearerFormat="JWT")
_OPERATOR_DOC = HTTPBearer(auto_error=False, scheme_name="operator")


@dataclass(frozen=True, slots=True)
class User:
    """A person, by the id that Supabase gave them."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Tells whose token it is, or refuses it; `secret` is Supabase's for HS256 tokens."""

    secret: str = field(repr=False)
    issuer: str
    audience: str
    leeway_s: float = LEEWAY_S
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __post_init__(self) -> None:
        if len(self.secret.encode()) < SECRET_BYTES:
            raise Invalid(f"The secret of tokens needs {SECRET_BYTES} bytes", code="WEAK_SECRET")

    def user(self, token: str) -> User:
        """Return whose token it is.

        Raises Unauthenticated for one that is forged, foreign, expired or not one at all, and
        Forbidden for a genuine one of another role (service_role, anon): those are no person.
        """
        claims = self._claims(token)
        self._check_times(claims)
        role = claims.get("role")
        if role != _ROLE:
            raise Forbidden("This token is genuine, but of no signed-in user")
        return User(_user_id(claims["sub"]))

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_BYTES:
            raise Unauthenticated("The token is not valid")
        try:
            return jwt.decode(  # pyright: ignore[reportUnknownMemberType]  # see issue_token
                token,
                self.secret,
                algorithms=[ALGORITHM],
                audience=self.audience,
                issuer=self.issuer,
                options=_CHECKED_HERE,
            )
        except (jwt.InvalidAudienceError, jwt.InvalidIssuerError):
            raise Unauthenticated("The token was made for another service") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated("The token is not valid") from None

    def _check_times(self, claims: dict[str, Any]) -> None:
        now = self.clock().timestamp()
        if _instant(claims, "exp") <= now - self.leeway_s:
            raise Unauthenticated("The token has expired")
        for claim in ("nbf", "iat"):
            if claim in claims and _instant(claims, claim) > now + self.leeway_s:
                raise Unauthenticated("The token is not valid yet")


def issue_token(
    *, secret: str, issuer: str, audience: str, sub: str, ttl_s: float, now: datetime
) -> str:
    """Return a user's token as Supabase would; for the development issuer and for tests."""
    issued = int(now.timestamp())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": sub,
        "role": _ROLE,
        "iat": issued,
        "exp": issued + int(ttl_s),
    }
    # Its types name those of cryptography, which HS256 does without.
    return jwt.encode(claims, secret, algorithm=ALGORITHM)  # pyright: ignore[reportUnknownMemberType]


async def require_user(
    request: Request, _doc: Annotated[object, Depends(_USER_DOC)] = None
) -> User:
    """Return the signed-in user and name them in the log; 401 without a valid token, 403 else."""
    user = verifier_of(request.scope).user(_bearer(request.scope))
    current().user_id = user.id
    return user


def require_operator(role: str = Role.OPERATOR) -> Callable[..., Awaitable[Operator]]:
    """Return a dependency that gives the operator; 401 for a stranger, 403 without the role."""
    needed = Role(role)

    async def operator(
        request: Request, _doc: Annotated[object, Depends(_OPERATOR_DOC)] = None
    ) -> Operator:
        operators: Operators = request.app.state.operators
        found = operators.find(_bearer(request.scope))
        if found is None:
            raise Unauthenticated("This is no operator's token")
        if needed is Role.OPERATOR and found.role is not needed:
            raise Forbidden(f"{found.name} may look, not change")
        return found

    return operator


require_viewer = require_operator(Role.VIEWER)


def user_id_in(scope: Scope) -> str | None:
    """Return the id of the user whose valid token a request carries; for the log, never raises."""
    try:
        return verifier_of(scope).user(_bearer(scope)).id
    except (CadenzaError, KeyError, AttributeError):  # no application, or one without users
        return None


def verifier_of(scope: Scope) -> Verifier:
    """Return how the application of this request judges users' tokens."""
    verifier: Verifier = scope["app"].state.verifier
    return verifier


def _bearer(scope: Scope) -> str:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(given) > 1:
        raise Unauthenticated("More than one Authorization header")
    scheme, _, token = given[0].partition(b" ") if given else (b"", b"", b"")
    if scheme.lower() != b"bearer" or not token.strip():
        raise Unauthenticated("No token: send Authorization: Bearer and the token")
    return token.strip().decode("latin-1")


def _instant(claims: dict[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Unauthenticated("The token is not valid")
    return value


def _user_id(sub: str) -> str:
    try:
        user_id = str(UUID(sub))
    except ValueError:
        user_id = ""
    if user_id != sub.lower():  # one spelling per person, no braces or urn
        raise Unauthenticated("The token names no user")
    return user_id

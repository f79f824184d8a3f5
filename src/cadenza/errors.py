"""Everything Cadenza raises on purpose, and the closed set of causes.

CadenzaError              catch this to catch all of them
|- Invalid                the request has mistakes; each names its field and the fix      422
|- Unauthenticated        no token, or not a valid one                                    401
|- Forbidden              a valid token without the right                                 403
|- NotFound               absent, or someone else's (the two look the same)               404
|- Conflict               the state of the world says no; the code says which             409
|- Gone                   it was here, and is kept no longer                              410
|- PreconditionMissing    a guarded write came without If-Match                           428
|- TooLarge               more bytes than one request may carry                           413
|- RateLimited            too many, come back after retry_after_s                         429
`- Unavailable            not now; nothing was changed, come back after retry_after_s     503

The numbers are what `web/problems.py` answers; nothing below `web` knows them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a unit of work ended as it did: one word for log, metric, alert and playbook."""

    MAX_TOKENS = "max_tokens"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_FIRST = "timeout_first"
    TIMEOUT_BETWEEN = "timeout_between"
    TIMEOUT_TOTAL = "timeout_total"
    PROVIDER_UNREACHABLE = "provider_unreachable"
    PROVIDER_HTTP_ERROR = "provider_http_error"
    PROVIDER_RATE_LIMITED = "provider_rate_limited"
    PROVIDER_STREAM_ERROR = "provider_stream_error"
    PROVIDER_CONNECTION_LOST = "provider_connection_lost"
    PROVIDER_TRUNCATED = "provider_truncated"
    PROVIDER_CONTENT_FILTER = "provider_content_filter"
    PROVIDER_INVALID_OUTPUT = "provider_invalid_output"
    INTERNAL = "internal"
    DATABASE_UNAVAILABLE = "database_unavailable"
    DISK_FULL = "disk_full"
    CLOCK_SKEW = "clock_skew"
    PROCESS_LOST = "process_lost"
    SHUTDOWN = "shutdown"
    BY_USER = "by_user"
    BY_OPERATOR = "by_operator"
    ABANDONED_SLOW = "abandoned_slow"
    CLIENT_LEFT = "client_left"
    CLIENT_SLOW = "client_slow"
    FLAG = "flag"
    REQUESTED = "requested"

    @property
    def is_environment(self) -> bool:
        """Say whether the surroundings failed, not the code that a flag turns on."""
        return self in _ENVIRONMENT


_ENVIRONMENT = frozenset({Reason.DATABASE_UNAVAILABLE, Reason.DISK_FULL, Reason.CLOCK_SKEW})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake in a request: where it is (a JSON pointer), what it is, how to mend it."""

    pointer: str
    code: str
    fix: str


class CadenzaError(Exception):
    """Base class: catch this to catch everything Cadenza raises on purpose.

    `code` is the stable word of the problem document, `detail` a sentence for a person,
    `extra` further members of the document (camelCase), never anything secret.
    """

    code: str = "INTERNAL"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        mistakes: Sequence[Mistake] = (),
        extra: Mapping[str, object] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.mistakes = tuple(mistakes)
        self.extra = dict(extra or {})
        self.retry_after_s = retry_after_s


class Invalid(CadenzaError):
    """The request has mistakes; `mistakes` names each."""

    code = "VALIDATION_ERROR"


class Unauthenticated(CadenzaError):
    """There is no token, or it is not a valid one."""

    code = "UNAUTHENTICATED"


class Forbidden(CadenzaError):
    """The token is valid and does not give this right."""

    code = "FORBIDDEN"


class NotFound(CadenzaError):
    """It does not exist, or belongs to someone else; a caller cannot tell which."""

    code = "NOT_FOUND"


class Conflict(CadenzaError):
    """The state of the world says no; `code` says which conflict it is."""

    code = "CONFLICT"


class Gone(CadenzaError):
    """It existed and is kept no longer; `extra` says where to look instead."""

    code = "GONE"


class PreconditionMissing(CadenzaError):
    """A guarded write came without the version it was made for."""

    code = "IF_MATCH_MISSING"


class TooLarge(CadenzaError):
    """More bytes than one request may carry."""

    code = "BODY_TOO_LARGE"


class RateLimited(CadenzaError):
    """Too many of these; `retry_after_s` says when the next is welcome."""

    code = "RATE_LIMITED"


class Unavailable(CadenzaError):
    """Not now: nothing was changed, and `retry_after_s` says when to ask again."""

    code = "UNAVAILABLE"


class DatabaseUnavailable(Unavailable):
    """The database did not answer within the budget; a write that was under way may have landed."""

    code = "DATABASE_UNAVAILABLE"

    def __init__(self, detail: str = "The database did not answer in time") -> None:
        super().__init__(detail, retry_after_s=2)

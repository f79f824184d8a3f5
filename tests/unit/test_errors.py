"""The error tree and the closed set of causes keep their shape."""

import re

import pytest

from cadenza import errors
from cadenza.errors import (
    CadenzaError,
    Conflict,
    DatabaseUnavailable,
    Invalid,
    Mistake,
    RateLimited,
    Reason,
    Unavailable,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, CadenzaError)
]
DRAWN = re.findall(r"^[|`]- (\w+) .*?(\d{3})$", errors.__doc__ or "", flags=re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_catching_the_root_catches_every_error(kind: type[CadenzaError]) -> None:
    assert issubclass(kind, CadenzaError)
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", kind.code)


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(codes) == len(set(codes))


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    below_the_root = {kind.__name__ for kind in KINDS if CadenzaError in kind.__bases__}
    assert {name for name, _ in DRAWN} == below_the_root
    assert {status for _, status in DRAWN} <= {
        *("401", "403", "404", "409", "410", "413", "422", "428", "429", "503"),
    }


def test_an_error_carries_its_detail_and_the_code_of_its_class() -> None:
    error = Conflict("two of you at once")
    assert (str(error), error.detail, error.code) == (*("two of you at once",) * 2, "CONFLICT")
    assert (error.mistakes, error.extra, error.retry_after_s) == ((), {}, None)


def test_a_conflict_says_which_one_and_adds_its_members() -> None:
    error = Conflict("one is running", code="RUN_IN_PROGRESS", extra={"runId": "r1"})
    assert (error.code, error.extra) == ("RUN_IN_PROGRESS", {"runId": "r1"})
    assert Conflict.code == "CONFLICT"


def test_the_members_of_an_error_are_its_own_copy() -> None:
    members: dict[str, object] = {"runId": "r1"}
    error = Conflict("one is running", extra=members)
    members["runId"] = "r2"
    assert error.extra == {"runId": "r1"}


def test_an_invalid_request_names_every_mistake() -> None:
    mistake = Mistake(pointer="/end", code="BEFORE_START", fix="Use a later date")
    assert Invalid("end is before start", mistakes=[mistake]).mistakes == (mistake,)


def test_a_limit_says_when_the_next_is_welcome() -> None:
    assert RateLimited("too many", retry_after_s=7).retry_after_s == 7


def test_an_absent_database_is_a_reason_to_come_back() -> None:
    error = DatabaseUnavailable()
    assert isinstance(error, Unavailable)
    assert error.retry_after_s is not None
    assert error.detail


def test_reasons_are_words_that_never_repeat() -> None:
    words = [reason.value for reason in Reason]
    assert len(words) == len(set(words))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", word) for word in words)
    assert all(reason.name == reason.value.upper() for reason in Reason)


def test_only_the_surroundings_count_as_the_environment() -> None:
    environment = {reason for reason in Reason if reason.is_environment}
    assert environment == {Reason.DATABASE_UNAVAILABLE, Reason.DISK_FULL, Reason.CLOCK_SKEW}

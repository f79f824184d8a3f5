"""Buckets that never move, and a document that says which rule decided."""

import hashlib
import json
from dataclasses import replace
from uuid import NAMESPACE_DNS, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadenza.flags.compile import bucket_of, compile_set
from cadenza.flags.policy import first_values

USERS = [str(uuid5(NAMESPACE_DNS, f"user-{n}")) for n in range(20_000)]

# Written down once. If one of these changes, every rollout re-draws its users: never edit them.
GOLDEN = [
    ("calendar-1", "calendar", "9750dcc2-516e-5ea0-8a26-54fa6ff6986b", 5748),
    ("calendar-1", "calendar", "00000000-0000-4000-8000-000000000000", 6027),
    ("publish-1", "publish", "9750dcc2-516e-5ea0-8a26-54fa6ff6986b", 8746),
    ("publish-2", "publish", "9750dcc2-516e-5ea0-8a26-54fa6ff6986b", 5787),
    ("calendar-1", "calendar", "grün", 6999),
]


@pytest.mark.parametrize(("salt", "key", "user_id", "bucket"), GOLDEN)
def test_golden_buckets_never_move(salt: str, key: str, user_id: str, bucket: int) -> None:
    assert bucket_of(salt=salt, key=key, user_id=user_id) == bucket


@given(user_id=st.text(min_size=1, max_size=60))
def test_the_bytes_are_as_documented(user_id: str) -> None:
    digest = hashlib.sha256(b"calendar-1:calendar:" + user_id.encode()).hexdigest()
    bucket = bucket_of(salt="calendar-1", key="calendar", user_id=user_id)
    assert bucket == int(digest[:16], 16) % 10_000


def test_raising_the_percentage_never_turns_a_user_off_over_20000_users() -> None:
    buckets = {u: bucket_of(salt="calendar-1", key="calendar", user_id=u) for u in USERS}
    inside: set[str] = set()
    for percent_bp in (1, 100, 1_000, 2_500, 5_000, 9_999, 10_000):
        exposed = {user for user, bucket in buckets.items() if bucket < percent_bp}
        assert inside <= exposed
        share = len(exposed) / len(USERS)
        assert abs(share - percent_bp / 10_000) < 0.01
        inside = exposed
    assert inside == set(USERS)


def test_two_flags_and_two_salts_draw_their_own_users() -> None:
    calendar = {u for u in USERS if bucket_of(salt="s-1", key="calendar", user_id=u) < 1_000}
    publish = {u for u in USERS if bucket_of(salt="s-1", key="publish", user_id=u) < 1_000}
    resalted = {u for u in USERS if bucket_of(salt="s-2", key="calendar", user_id=u) < 1_000}
    assert 0 < len(calendar & publish) < len(calendar) / 5
    assert 0 < len(calendar & resalted) < len(calendar) / 5


def test_the_document_is_the_same_for_the_same_policies_in_any_order() -> None:
    policies = first_values(development=True, version=3)
    assert compile_set(policies, set_version=3) == compile_set(policies[::-1], set_version=3)


def test_no_flag_is_ever_disabled_and_nothing_is_shared() -> None:
    policies = [replace(p, kill=True) for p in first_values(development=True, version=3)]
    document = json.loads(compile_set(policies, set_version=3))
    assert set(document) == {"flags", "metadata"}
    assert {flag["state"] for flag in document["flags"].values()} == {"ENABLED"}
    assert "fractional" not in json.dumps(document)

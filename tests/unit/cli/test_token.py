from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cadenza.cli.home import ISSUER, keep_development, user_id
from cadenza.cli.token import development_token
from cadenza.errors import Unauthenticated, Unavailable
from cadenza.settings import Settings, read_settings
from cadenza.web.auth import Verifier

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def of(home: Path) -> Settings:
    return read_settings({"CADENZA_HOME": str(home)})


def test_the_service_of_that_home_takes_the_token(tmp_path: Path) -> None:
    kept = keep_development(tmp_path, url="http://127.0.0.1:8080")
    token = development_token(of(tmp_path), "alice", ttl_s=60, now=NOW)
    verifier = Verifier(
        secret=kept.jwt_secret, issuer=ISSUER, audience="authenticated", clock=lambda: NOW
    )
    assert verifier.user(token).id == str(user_id("alice"))


@pytest.mark.parametrize(("after_s", "is_valid"), [(59, True), (61, False)])
def test_it_expires_when_it_was_asked_to(tmp_path: Path, after_s: int, *, is_valid: bool) -> None:
    kept = keep_development(tmp_path, url="http://127.0.0.1:8080")
    settings = of(tmp_path)
    token = development_token(settings, "alice", ttl_s=60, now=NOW)
    verifier = Verifier(
        secret=kept.jwt_secret,
        issuer=ISSUER,
        audience="authenticated",
        leeway_s=0,
        clock=lambda: NOW + timedelta(seconds=after_s),
    )
    if is_valid:
        assert verifier.user(token)
    else:
        with pytest.raises(Unauthenticated):
            verifier.user(token)


def test_a_secret_of_the_settings_comes_first(tmp_path: Path) -> None:
    keep_development(tmp_path, url="http://127.0.0.1:8080")
    secret = "s" * 40
    told = {"HOME": str(tmp_path), "JWT_SECRET": secret, "JWT_ISSUER": "urn:mine"}
    settings = read_settings({f"CADENZA_{name}": value for name, value in told.items()})
    token = development_token(settings, "alice", ttl_s=60, now=NOW)
    verifier = Verifier(
        secret=secret, issuer="urn:mine", audience="authenticated", clock=lambda: NOW
    )
    assert verifier.user(token).id == str(user_id("alice"))


def test_before_the_first_start_there_is_nothing_to_sign_with(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cadenza up"):
        development_token(of(tmp_path), "alice", ttl_s=60, now=NOW)

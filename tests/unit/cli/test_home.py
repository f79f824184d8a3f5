import json
from pathlib import Path

import pytest

from cadenza.cli.home import keep_development, read_development, user_id, write_private
from cadenza.errors import Unavailable


def test_a_name_is_the_same_user_on_every_machine() -> None:
    assert str(user_id("alice")) == "acb6966f-8a5c-5e7f-96ab-80bd3ddb4135"
    assert user_id("alice") != user_id("bob")


def test_nothing_is_known_before_the_first_start(tmp_path: Path) -> None:
    assert read_development(tmp_path) is None


def test_secrets_stay_and_the_address_follows(tmp_path: Path) -> None:
    home = tmp_path / "not there yet"
    first = keep_development(home, url="http://127.0.0.1:8080")
    second = keep_development(home, url="http://127.0.0.1:9090")
    assert second.url == "http://127.0.0.1:9090"
    assert second.jwt_secret == first.jwt_secret
    assert second.operator_token == first.operator_token
    assert second.database_password == first.database_password
    assert read_development(home) == second
    assert len(first.jwt_secret) >= 32
    assert len({first.jwt_secret, first.operator_token, first.database_password}) == 3


def test_only_the_owner_may_read_them_and_repr_hides_them(tmp_path: Path) -> None:
    kept = keep_development(tmp_path, url="http://127.0.0.1:8080")
    assert (tmp_path / "development.json").stat().st_mode & 0o777 == 0o600
    for secret in (kept.jwt_secret, kept.operator_token, kept.database_password):
        assert secret not in repr(kept)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"url": "http://x"}), "not json"])
def test_a_file_that_is_not_ours_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "development.json").write_text(text)
    with pytest.raises(Unavailable, match=r"development\.json"):
        read_development(tmp_path)


def test_a_private_file_is_replaced_whole_and_was_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("open to all")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]

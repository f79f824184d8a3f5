"""The operators' file: read strictly, searched evenly."""

import json
from pathlib import Path

import pytest

from cadenza.errors import Invalid
from cadenza.web.operators import Operator, Operators, Role, read_operators, token_sha256

ANA = {"name": "ana", "tokenSha256": token_sha256("ana-token"), "role": "operator"}
EVA = {"name": "eva@example.org", "tokenSha256": token_sha256("eva-token"), "role": "viewer"}


def written(path: Path, listed: object) -> Path:
    path.write_text(listed if isinstance(listed, str) else json.dumps(listed))
    return path


def test_everyone_is_found_by_their_own_token_only(tmp_path: Path) -> None:
    operators = Operators(read_operators(written(tmp_path / "o.json", [ANA, EVA])))
    assert len(operators) == 2
    assert operators.find("ana-token") == Operator("ana", Role.OPERATOR)
    assert operators.find("eva-token") == Operator("eva@example.org", Role.VIEWER)
    assert operators.find("") is None
    assert operators.find(ANA["tokenSha256"]) is None
    assert Operators().find("ana-token") is None


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("{", "no JSON"),
        ({"operators": []}, "no list"),
        (["ana"], "entry 1"),
        ([ANA, {**EVA, "email": "x"}], "entry 2"),
        ([{**ANA, "role": "admin"}], "role"),
        ([{**ANA, "role": "Viewer"}], "role"),
        ([{**ANA, "name": ""}], "name"),
        ([{**ANA, "name": "two words"}], "name"),
        ([{**ANA, "name": None}], "name"),
        ([{**ANA, "tokenSha256": "ana-token"}], "tokenSha256"),
        ([{**ANA, "tokenSha256": ANA["tokenSha256"].upper()}], "tokenSha256"),
        ([{"name": "ana", "role": "viewer", "token": "ana-token"}], "entry 1"),
        ([ANA, {**EVA, "name": "ana"}], "same name"),
        ([ANA, {**EVA, "tokenSha256": ANA["tokenSha256"]}], "same token"),
    ],
)
def test_a_file_with_a_mistake_is_refused_and_the_mistake_is_told(
    tmp_path: Path, listed: object, told: str
) -> None:
    path = written(tmp_path / "o.json", listed)
    with pytest.raises(Invalid) as refused:
        read_operators(path)
    assert told in refused.value.detail
    assert str(path) in refused.value.detail
    assert "ana-token" not in refused.value.detail


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        read_operators(tmp_path / "missing.json")

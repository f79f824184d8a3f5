"""Operators: a file of names and token hashes, so that they get in without a database."""

import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from cadenza.errors import Invalid

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Role(StrEnum):
    """What an operator may do: look, or change."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRecord:
    """One line of the operators' file; the token itself is kept nowhere."""

    name: str
    token_sha256: str
    role: Role


@dataclass(frozen=True, slots=True)
class Operator:
    """Who operates; the name is the audit's actor."""

    name: str
    role: Role


class Operators:
    """Everyone who may operate this service."""

    def __init__(self, records: Sequence[OperatorRecord] = ()) -> None:
        self._known = tuple(
            (bytes.fromhex(record.token_sha256), Operator(record.name, record.role))
            for record in records
        )

    def __len__(self) -> int:
        return len(self._known)

    def find(self, token: str) -> Operator | None:
        """Return whose token it is; takes the same time whoever's, and for a stranger's."""
        digest = hashlib.sha256(token.encode()).digest()
        found: Operator | None = None
        for known, operator in self._known:
            if hmac.compare_digest(known, digest):
                found = operator
        return found


def token_sha256(token: str) -> str:
    """Return what the operators' file keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_operators(path: Path) -> tuple[OperatorRecord, ...]:
    """Return the operators of a file; raises Invalid `OPERATORS_FILE` that says what to mend."""
    try:
        listed: object = json.loads(path.read_text())
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise _refused(path, "is no JSON") from None
    if not isinstance(listed, list):
        raise _refused(path, "is no list")
    items = cast("list[object]", listed)
    records = tuple(_record(path, number, item) for number, item in enumerate(items, start=1))
    for what in ("name", "token_sha256"):
        if len({getattr(record, what) for record in records}) < len(records):
            raise _refused(path, f"has two operators of the same {what.partition('_')[0]}")
    return records


def _record(path: Path, number: int, item: object) -> OperatorRecord:
    if not isinstance(item, dict) or set(cast("dict[str, Any]", item)) != {
        *("name", "tokenSha256", "role"),
    }:
        raise _refused(path, f"entry {number} needs name, tokenSha256 and role, nothing else")
    fields = cast("dict[str, Any]", item)
    for key, shape, wanted in (
        ("name", _NAME, "1 to 64 letters, digits or ._@-"),
        ("tokenSha256", _SHA256, "the sha256 of the token, 64 hex digits"),
        ("role", re.compile("viewer|operator"), "viewer or operator"),
    ):
        if not isinstance(fields[key], str) or not shape.fullmatch(fields[key]):
            raise _refused(path, f"entry {number}: {key} must be {wanted}")
    return OperatorRecord(
        name=fields["name"], token_sha256=fields["tokenSha256"], role=Role(fields["role"])
    )


def _refused(path: Path, what: str) -> Invalid:
    return Invalid(f"The operators' file {path} {what}", code="OPERATORS_FILE")

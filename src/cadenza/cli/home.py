"""What a development instance keeps in its home for the other verbs: `development.json`.

It holds secrets of this machine only, is readable by its owner only, and stays the same from one
start to the next, so that tokens outlive a restart.
"""

import json
import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import NAMESPACE_URL, UUID, uuid5

from cadenza.errors import Unavailable

ISSUER = "urn:cadenza:development"
_USERS = uuid5(NAMESPACE_URL, "urn:cadenza:development:user")
_NAME = "development.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Development:
    """The secrets of one development instance, and where it last listened."""

    url: str
    operator_token: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    database_password: str = field(repr=False)


def user_id(name: str) -> UUID:
    """Return the id of a development user: the same name has the same id on every machine."""
    return uuid5(_USERS, name)


def read_development(home: Path) -> Development | None:
    """Return what `up` wrote; None where it never ran."""
    try:
        found = cast("dict[str, Any]", json.loads((home / _NAME).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unavailable(f"{home / _NAME} cannot be read: {error}") from None
    try:
        return Development(
            url=str(found["url"]),
            operator_token=str(found["operatorToken"]),
            jwt_secret=str(found["jwtSecret"]),
            database_password=str(found["databasePassword"]),
        )
    except (KeyError, TypeError):
        raise Unavailable(f"{home / _NAME} is not what `cadenza up` writes: remove it") from None


def keep_development(home: Path, *, url: str) -> Development:
    """Write where this instance listens, and return its secrets: the old ones, if there are."""
    home.mkdir(parents=True, exist_ok=True)
    known = read_development(home)
    kept = (
        replace(known, url=url)
        if known
        else Development(
            url=url,
            operator_token=f"operator-{secrets.token_urlsafe(24)}",
            jwt_secret=secrets.token_urlsafe(36),
            database_password=secrets.token_urlsafe(24),
        )
    )
    words = {_camel(key): value for key, value in asdict(kept).items()}
    write_private(home / _NAME, json.dumps(words, indent=2) + "\n")
    return kept


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, readable by its owner only."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(unfinished, flags, 0o600), "w") as file:
        file.write(text)
    unfinished.rename(path)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)

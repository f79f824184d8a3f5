"""A drill context: for a few minutes, one user's decisions are forced, and marked as a drill."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cadenza.errors import Invalid, Mistake
from cadenza.flags.policy import VARIANTS

TTL_LIMIT_S: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """An open drill: whose it is, and which variant it forces for which flag.

    Work under it runs in the drill lane. `publish: live` counts on a dryrun account only, which
    publishing itself sees to.
    """

    id: str
    user_id: str
    flags: Mapping[str, str]


def new_drill(*, user_id: str, flags: Mapping[str, str], ttl_s: int) -> Drill:
    """Return a drill with an id that cannot be guessed; raise Invalid with every mistake."""
    mistakes = [*_user_mistakes(user_id), *_flag_mistakes(flags)]
    if not 1 <= ttl_s <= TTL_LIMIT_S:
        fix = f"Use 1 to {TTL_LIMIT_S} seconds"
        mistakes.append(Mistake(pointer="/ttlS", code="OUT_OF_RANGE", fix=fix))
    if mistakes:
        raise Invalid(f"{mistakes[0].pointer}: {mistakes[0].fix}", mistakes=mistakes)
    return Drill(id=secrets.token_urlsafe(24), user_id=str(UUID(user_id)), flags=dict(flags))


def _user_mistakes(user_id: str) -> list[Mistake]:
    try:
        UUID(user_id)
    except ValueError:
        return [Mistake(pointer="/userId", code="BAD_UUID", fix="Use the user's id, a UUID")]
    return []


def _flag_mistakes(flags: Mapping[str, str]) -> list[Mistake]:
    if not flags:
        return [Mistake(pointer="/flags", code="MISSING", fix="Name at least one flag to force")]
    mistakes: list[Mistake] = []
    for key, variant in flags.items():
        known = VARIANTS.get(key)
        if known is None:
            fix = f"Use one of: {', '.join(VARIANTS)}"
            pointer = "/flags/" + key.replace("~", "~0").replace("/", "~1")
            mistakes.append(Mistake(pointer=pointer, code="UNKNOWN_FLAG", fix=fix))
        elif variant not in {known.on, known.safe}:
            fix = f"Use {known.on} or {known.safe}"
            mistakes.append(Mistake(pointer=f"/flags/{key}", code="UNKNOWN_VARIANT", fix=fix))
    return mistakes

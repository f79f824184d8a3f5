"""What operators do to a policy, and when exposing more users is refused. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from cadenza.errors import Conflict, Invalid, Mistake
from cadenza.events import FlagChanged
from cadenza.flags.policy import ALL_BP, Policy

REASON_MIN: Final = 3
REASON_MAX: Final = 500

Edit = Callable[[Policy], Policy]


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who changes something, why, and by which act; what the audit keeps.

    `cause` holds at least `kind` (operator, guard, packaged) and `verb`.
    """

    actor: str
    reason: str
    cause: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A policy before and after one act; the same one twice when there was nothing to do."""

    before: Policy
    after: Policy
    set_version: int
    by: By

    @property
    def happened(self) -> bool:
        """Say whether anything was changed."""
        return self.before != self.after

    def event(self) -> FlagChanged:
        """Return what to record once the change is committed."""
        return FlagChanged(
            flag={
                "key": self.after.key,
                "from": f"{self.before.summary()}@{self.before.version}",
                "to": f"{self.after.summary()}@{self.after.version}",
                "actor": self.by.actor,
                "cause": str(self.by.cause["kind"]),
            }
        )


_SET_BY = {"ai": "CADENZA_AI_BASE_URL and CADENZA_AI_MODEL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a policy's `requires` is held against, at the instance that makes the change."""

    schema_revision: str | None
    settings: frozenset[str]
    hard_kills: frozenset[str]


def by_operator(*, actor: str, reason: str, verb: str, request_id: str | None) -> By:
    """Return an operator's act; raise Invalid when the reason is not one."""
    told = reason.strip()
    if not (REASON_MIN <= len(told) <= REASON_MAX and told.isprintable()):
        fix = f"Say why, in {REASON_MIN} to {REASON_MAX} characters on one line"
        mistake = Mistake(pointer="/reason", code="REASON_MISSING", fix=fix)
        raise Invalid("An operator's act needs a reason", mistakes=[mistake])
    cause = {"kind": "operator", "verb": verb, "requestId": request_id}
    return By(actor=actor, reason=told, cause=cause)


def switched_on(policy: Policy) -> Policy:
    """Return the policy on for all but the denied; clears `kill` and `stopped`."""
    return replace(policy, kill=False, stopped=False, percent_bp=ALL_BP)


def switched_off(policy: Policy) -> Policy:
    """Return the policy off for everyone: no share and nobody allowed; `kill` stays as it is."""
    return replace(policy, percent_bp=0, allow=())


def killed(policy: Policy) -> Policy:
    """Return the policy killed; share and lists are kept for the day it is cleared."""
    return replace(policy, kill=True)


def grows(before: Policy, after: Policy) -> bool:
    """Say whether `after` may expose a user whom `before` did not."""
    return (
        (before.kill and not after.kill)
        or (before.stopped and not after.stopped)
        or after.percent_bp > before.percent_bp
        or (after.salt != before.salt and 0 < after.percent_bp < ALL_BP)
        or bool(set(after.allow) - set(before.allow))
        or bool(set(before.deny) - set(after.deny))
    )


def changed_fields(before: Policy, after: Policy) -> list[str]:
    """Return the wire names of what differs, the version aside."""
    old, new = before.as_wire(), after.as_wire()
    return sorted(name for name in old if name != "version" and old[name] != new[name])


def refuse_growth(after: Policy, others: Mapping[str, Policy], around: Surroundings) -> None:
    """Raise the Conflict that says what is missing before more users may see this flag.

    Asked only when exposure grows, never at evaluation: what is missing later cannot hold back
    what was approved before.
    """
    if after.key in around.hard_kills:
        variable = f"{after.key.upper()}_SERVICE_ENABLED"
        raise Conflict(
            f"The environment holds {after.key} off: unset {variable} and start again",
            code="ENV_HARD_KILL",
            extra={"variable": variable},
        )
    needed = after.requires.schema
    if needed is not None and (around.schema_revision or "") < needed:
        raise Conflict(
            f"{after.key} needs schema revision {needed}, the database has "
            f"{around.schema_revision or 'none'}: run `cadenza migrate` of a release that ships it",
            code="SCHEMA_BEHIND",
            extra={"missing": needed, "present": around.schema_revision},
        )
    if missing := sorted(set(after.requires.settings) - around.settings):
        raise Conflict(
            f"{after.key} needs a setting that is not there: "
            + ", ".join(_SET_BY.get(name, name) for name in missing),
            code="SETTING_MISSING",
            extra={"missing": missing},
        )
    if closed := _closed(after.requires.flags, others):
        raise Conflict(
            f"{after.key} needs these flags to be on for someone first: {', '.join(closed)}",
            code="FLAG_REQUIRED",
            extra={"missing": closed},
        )


def _closed(keys: Iterable[str], policies: Mapping[str, Policy]) -> list[str]:
    return [key for key in keys if key not in policies or not _is_exposed(policies[key])]


def _is_exposed(policy: Policy) -> bool:
    return not (policy.kill or policy.stopped) and bool(policy.percent_bp or policy.allow)

"""One flag for one user: the decision that is pinned, logged and counted."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from openfeature import api
from openfeature.client import OpenFeatureClient

# The SDK is typed; its py.typed stands one folder above these packages.
from openfeature.evaluation_context import (  # pyright: ignore[reportMissingTypeStubs]
    EvaluationContext,
)
from openfeature.flag_evaluation import FlagEvaluationDetails, FlagValueType
from openfeature.hook import (  # pyright: ignore[reportMissingTypeStubs]
    Hook,
    HookContext,
    HookHints,
)
from openfeature.provider.no_op_provider import (  # pyright: ignore[reportMissingTypeStubs]
    NoOpProvider,
)

from cadenza.errors import CadenzaError, Invalid, Mistake, NotFound
from cadenza.flags.compile import RULE_OF
from cadenza.flags.drill import Drill
from cadenza.flags.policy import KEYS, VARIANTS
from cadenza.flags.probe import STRANGER
from cadenza.flags.provider import PACKAGED, CadenzaProvider

OVERRIDE: Final = "override"
DRILL: Final = "drill"
# Off-line copies of a flag may go on answering for reads, never for what cannot be unsent.
FAILS_SAFE: Final = frozenset({"publish"})
STALE_LIMIT_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one flag says to one user, and why.

    `version` is the policy's own, shown as `ai@12` and logged; `set_version` is the flag-set
    version held when deciding, which the gate compares before anything is written. `bucket` is
    -1 when the set held could not be asked.
    """

    key: str
    user_id: str
    variant: str
    rule: str
    bucket: int
    version: int
    set_version: int
    source: str

    @property
    def label(self) -> str:
        """Return the log's and the pin's short form, such as ai@12."""
        return f"{self.variant}@{self.version}"

    @property
    def is_on(self) -> bool:
        """Say whether this user gets the new path."""
        return self.variant == VARIANTS[self.key].on

    def as_wire(self) -> dict[str, object]:
        """Return the contract's JSON shape."""
        return {
            "key": self.key,
            "userId": self.user_id,
            "variant": self.variant,
            "rule": self.rule,
            "bucket": self.bucket,
            "version": self.version,
            "source": self.source,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the SDK's hook saw of one evaluation; `error` is its code, None when it went well."""

    key: str
    variant: str
    rule: str | None
    error: str | None


Observer = Callable[[Evaluation], None]


class _Observing(Hook):
    def __init__(self, observe: Observer) -> None:
        self._observe = observe

    def finally_after(
        self,
        hook_context: HookContext,
        details: FlagEvaluationDetails[FlagValueType],
        hints: HookHints,  # noqa: ARG002  # the SDK's signature
    ) -> None:
        self._observe(
            Evaluation(
                key=hook_context.flag_key,
                variant=str(details.value),
                rule=RULE_OF.get(details.variant or ""),
                error=details.error_code.value if details.error_code else None,
            )
        )


def connect(
    provider: CadenzaProvider, *, domain: str, observe: Observer | None = None
) -> OpenFeatureClient:
    """Return a client of this provider, which has passed its self-test.

    The domain must be the caller's own: two providers under one name would answer for each
    other. Raises CadenzaError when the provider cannot answer through the SDK.
    """
    api.set_provider_and_wait(provider, domain=domain)
    client = api.get_client(domain=domain)
    self_test(client)
    if observe is not None:
        client.add_hooks([_Observing(observe)])
    return client


def disconnect(domain: str) -> None:
    """Let go of the provider of this domain."""
    api.set_provider_and_wait(NoOpProvider(), domain=domain)


def self_test(client: OpenFeatureClient) -> None:
    """Ask each flag once; raise CadenzaError if any is not answered by the provider itself."""
    for key in KEYS:
        context = EvaluationContext(targeting_key=STRANGER)
        details = client.get_string_details(key, "(unanswered)", context)
        known = {VARIANTS[key].on, VARIANTS[key].safe}
        if details.error_code is not None or details.value not in known:
            found = details.error_code.value if details.error_code else details.value
            raise CadenzaError(f"The flag provider does not answer for {key}: {found}")


def evaluate(
    client: OpenFeatureClient,
    *,
    key: str,
    user_id: str,
    drill: Drill | None = None,
    hard_kills: frozenset[str] = frozenset(),
    stale_s: float = 0.0,
) -> Decision:
    """Return the decision of one flag for one user; never fails for a known flag.

    `drill` is an open drill context of this very user. `stale_s` is how long the database has
    not confirmed the set: beyond STALE_LIMIT_S a flag with side effects answers safe.
    Raises Invalid without a user, NotFound for an unknown flag or someone else's drill.
    """
    if not user_id:
        fix = "Evaluate a flag for a user"
        raise Invalid("No user id", mistakes=[Mistake(pointer="/userId", code="MISSING", fix=fix)])
    if key not in VARIANTS:
        raise NotFound(f"There is no flag {key}; there are {', '.join(KEYS)}")
    if drill is not None and drill.user_id != user_id:
        raise NotFound("There is no such drill for this user", code="DRILL_NOT_FOUND")
    safe = VARIANTS[key].safe
    forced = None if drill is None else drill.flags.get(key)
    context = EvaluationContext(
        targeting_key=user_id, attributes={} if forced is None else {"drill": forced}
    )
    decision = _decision(user_id, client.get_string_details(key, safe, context))
    if key in hard_kills:
        return _turned_safe(decision, rule="env", source=OVERRIDE)
    if key in FAILS_SAFE and stale_s > STALE_LIMIT_S:
        return _turned_safe(decision, rule="safe", source=decision.source)
    return decision


def _decision(user_id: str, details: FlagEvaluationDetails[str]) -> Decision:
    """Return the decision of an answer; an answer that failed is the safe variant, packaged."""
    facts = details.flag_metadata
    rule = RULE_OF.get(details.variant or "")
    key = details.flag_key
    if details.error_code is not None or rule is None:
        facts, rule = {"source": PACKAGED}, "safe"
    return Decision(
        key=key,
        user_id=user_id,
        variant=details.value,
        rule=rule,
        bucket=int(facts.get("bucket", -1)),
        version=int(facts.get("version", 0)),
        set_version=int(facts.get("setVersion", 0)),
        source=DRILL if rule == "drill" else str(facts["source"]),
    )


def _turned_safe(decision: Decision, *, rule: str, source: str) -> Decision:
    safe = VARIANTS[decision.key].safe
    return replace(decision, variant=safe, rule=rule, source=source)

"""Proof before commit: a compiled document answers as its policies say, in every branch.

flagd-core accepts unknown operators and unknown variants and fails only when a user meets them,
so the document is checked against its schema and then asked, on an evaluator of its own, about
each branch. What the policies say is written here a second time, as plain conditions.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Protocol, cast

import jsonschema
from openfeature.contrib.tools.flagd.core import FlagdCore

# The SDK is typed; its py.typed stands one folder above this package.
from openfeature.evaluation_context import (  # pyright: ignore[reportMissingTypeStubs]
    EvaluationContext,
)
from openfeature.exception import OpenFeatureError

from cadenza.errors import Invalid, Mistake
from cadenza.flags.compile import RULE_OF
from cadenza.flags.policy import ALL_BP, Policy

STRANGER: Final = "00000000-0000-4000-8000-000000000000"
_UNANSWERED: Final = "(no variant)"


class _Validator(Protocol):
    def iter_errors(self, instance: object) -> Iterator[jsonschema.ValidationError]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question: this user, in this bucket, with this variant forced by a drill."""

    user_id: str
    bucket: int | None
    drill: str | None = None


def prove(policies: Iterable[Policy], compiled: str) -> FlagdCore:
    """Return an evaluator that holds the document; raise Invalid unless every branch is right."""
    document: object = json.loads(compiled)
    if wrong := next(_schema().iter_errors(document), None):
        pointer = "".join(f"/{part}" for part in wrong.absolute_path)
        raise _refused(pointer, wrong.message)
    core = FlagdCore()
    try:
        core.set_flags(compiled)
        for policy in policies:
            for probe in probes(policy):
                _ask(core, policy, probe)
    except OpenFeatureError as error:
        raise _refused("/flags", f"{type(error).__name__}: {error.error_message}") from error
    return core


def probes(policy: Policy) -> Iterator[Probe]:
    """Yield the questions that together pass through every branch, and both sides of each edge."""
    edge = policy.percent_bp
    buckets = sorted({0, max(edge - 1, 0), min(edge, ALL_BP - 1), ALL_BP - 1})
    for bucket in (*buckets, None):
        yield Probe(user_id=STRANGER, bucket=bucket)
        for drill in (policy.variants.on, policy.variants.safe, "unheard-of"):
            yield Probe(user_id=STRANGER, bucket=bucket, drill=drill)
    for user_id in (*policy.deny, *policy.allow):
        for bucket in (0, ALL_BP - 1):
            yield Probe(user_id=user_id, bucket=bucket)
    for user_id in (*policy.deny[:1], *policy.allow[:1]):
        for drill in (policy.variants.on, policy.variants.safe):
            yield Probe(user_id=user_id, bucket=0, drill=drill)


def expected(policy: Policy, probe: Probe) -> tuple[str, str]:
    """Return the rule that must decide this question, and the variant it must answer."""
    on, safe = policy.variants.on, policy.variants.safe
    drilled = probe.drill in {on, safe}
    is_inside = probe.bucket is not None and probe.bucket < policy.percent_bp
    order = (
        (policy.kill, "kill", safe),
        (policy.stopped, "stopped", safe),
        (drilled, "drill", probe.drill or safe),
        (probe.user_id in policy.deny, "deny", safe),
        (probe.user_id in policy.allow, "allow", on),
        (is_inside, "percent", on),
    )
    return next(((rule, variant) for holds, rule, variant in order if holds), ("safe", safe))


def _ask(core: FlagdCore, policy: Policy, probe: Probe) -> None:
    attributes: dict[str, str | int] = {}
    if probe.bucket is not None:
        attributes["bucket"] = probe.bucket
    if probe.drill is not None:
        attributes["drill"] = probe.drill
    context = EvaluationContext(targeting_key=probe.user_id, attributes=attributes)
    details = core.resolve_string_value(policy.key, _UNANSWERED, context)
    answered = (RULE_OF.get(details.variant or ""), details.value)
    wanted = expected(policy, probe)
    if answered != wanted:
        raise _refused(
            f"/flags/{policy.key}", f"{probe} is answered {answered}, the policy says {wanted}"
        )


def _refused(pointer: str, found: str) -> Invalid:
    return Invalid(
        f"The compiled flags are not what the policies say: {found}",
        code="FLAGS_NOT_PROVEN",
        mistakes=[Mistake(pointer=pointer, code="FLAGS_NOT_PROVEN", fix=found)],
    )


@cache
def _schema() -> _Validator:
    text = files("cadenza.flags").joinpath("flagd.schema.json").read_text("utf-8")
    return cast("_Validator", jsonschema.Draft202012Validator(json.loads(text)))

"""Cadenza's OpenFeature provider: policies held in memory, decided by flagd-core in process."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from openfeature.contrib.tools.flagd.core import FlagdCore

# The SDK is typed; its py.typed stands one folder above these packages.
from openfeature.evaluation_context import (  # pyright: ignore[reportMissingTypeStubs]
    EvaluationContext,
)
from openfeature.event import ProviderEventDetails
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.provider import (  # pyright: ignore[reportMissingTypeStubs]
    AbstractProvider,
    Metadata,
)

from cadenza.flags.compile import bucket_of, compile_set
from cadenza.flags.policy import Policy, first_values
from cadenza.flags.probe import prove

DATABASE: Final = "database"
PACKAGED: Final = "packaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagSet:
    """All policies as of one version. `epoch` changes only when the set was made anew."""

    version: int
    epoch: UUID | None
    policies: Mapping[str, Policy]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVersion:
    """Which set the database has, without its policies: the one row that is polled."""

    version: int
    epoch: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where sets come from. Both raise Unavailable while there is nothing to be had."""

    peek: Callable[[], Awaitable[SetVersion]]
    load: Callable[[], Awaitable[FlagSet]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A flag set in force: proven, with the evaluator that answers for it."""

    flags: FlagSet
    source: str
    core: FlagdCore


def flag_set(policies: Iterable[Policy], *, version: int, epoch: UUID | None) -> FlagSet:
    """Return the set of these policies."""
    return FlagSet(version=version, epoch=epoch, policies={p.key: p for p in policies})


def packaged() -> FlagSet:
    """Return what holds before the database was ever seen: everything safe, version 0."""
    return flag_set(first_values(development=False, version=0), version=0, epoch=None)


def hold(flags: FlagSet, *, source: str) -> Held:
    """Return the set compiled and proven; raise Invalid when it does not answer as it says."""
    policies = flags.policies.values()
    core = prove(policies, compile_set(policies, set_version=flags.version))
    return Held(flags=flags, source=source, core=core)


class CadenzaProvider(AbstractProvider):
    """Answers OpenFeature from the set it holds; `swap` replaces the set by reference.

    The SDK calls providers by keyword and turns a TypeError into the caller's default, which
    looks like a flag that is off: the parameter names here are the SDK's own, and
    `evaluate.self_test` asks once at start.
    """

    def __init__(self, held: Held) -> None:
        super().__init__()
        self._held = held

    @property
    def held(self) -> Held:
        """Return the set in force."""
        return self._held

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="cadenza")

    def swap(self, held: Held) -> None:
        """Answer from this set from now on; an evaluation under way ends on the old one."""
        before, self._held = self._held, held
        old, new = before.flags.policies, held.flags.policies
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=changed))

    def resolve_string_details(
        self,
        flag_key: str,
        default_value: str,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[str]:
        """Return the variant's word; the metadata says bucket, versions and source."""
        held = self._held
        context, bucket = _with_bucket(held, flag_key, evaluation_context)
        details = held.core.resolve_string_value(flag_key, default_value, context)
        details.flag_metadata = {
            **details.flag_metadata,
            "bucket": bucket,
            "source": held.source,
        }
        return details

    def resolve_boolean_details(
        self,
        flag_key: str,
        default_value: bool,  # noqa: FBT001  # the SDK's signature
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[bool]:
        """Answer a type mismatch: every flag of ours is a word."""
        return self._held.core.resolve_boolean_value(flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self,
        flag_key: str,
        default_value: int,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[int]:
        """Answer a type mismatch: every flag of ours is a word."""
        return self._held.core.resolve_integer_value(flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self,
        flag_key: str,
        default_value: float,
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[float]:
        """Answer a type mismatch: every flag of ours is a word."""
        return self._held.core.resolve_float_value(flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Answer a type mismatch: every flag of ours is a word."""
        return self._held.core.resolve_object_value(flag_key, default_value, evaluation_context)


def _with_bucket(
    held: Held, key: str, context: EvaluationContext | None
) -> tuple[EvaluationContext | None, int]:
    """Return the context with the user's bucket in it, whatever bucket the caller claimed."""
    policy = held.flags.policies.get(key)
    if policy is None or context is None or not context.targeting_key:
        return context, -1
    user_id = context.targeting_key
    bucket = bucket_of(salt=policy.salt, key=key, user_id=user_id)
    attributes = {**context.attributes, "bucket": bucket}
    return EvaluationContext(targeting_key=user_id, attributes=attributes), bucket

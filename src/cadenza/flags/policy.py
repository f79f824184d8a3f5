"""A flag's policy: what operators edit, exactly the shape of the contract.

Everything else (the flagd document, the decision, the audit) is derived from it. Reading one
from the wire is strict: a policy with a mistake is refused whole, each mistake with its pointer.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from cadenza.errors import Invalid, Mistake

ALL_BP: Final = 10_000
# Lists are for people one can name: each entry costs every evaluation about 0.4 us (measured
# with flagd-core 2.0.0), and every proof an evaluation. More users are a share, not a list.
LIST_LIMIT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Variants:
    """The two words a flag can answer: the new path, and the one that is always safe."""

    on: str
    safe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Requires:
    """What must be there before more users may see the flag; never asked when it is evaluated."""

    schema: str | None = None
    flags: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who gets which variant of one flag. `version` is the flag-set version that last changed it.

    `percent_bp` is in 1/100 %, 0 to 10,000. `deny` and `allow` hold user ids; deny wins.
    """

    key: str
    kill: bool
    stopped: bool
    deny: tuple[str, ...]
    allow: tuple[str, ...]
    percent_bp: int
    salt: str
    variants: Variants
    requires: Requires
    owner: str
    expires_at: datetime | None
    version: int

    def as_wire(self) -> dict[str, object]:
        """Return the contract's JSON shape."""
        return {
            "key": self.key,
            "kill": self.kill,
            "stopped": self.stopped,
            "deny": list(self.deny),
            "allow": list(self.allow),
            "percentBp": self.percent_bp,
            "salt": self.salt,
            "variants": {"on": self.variants.on, "safe": self.variants.safe},
            "requires": {
                "schema": self.requires.schema,
                "flags": list(self.requires.flags),
                "settings": list(self.requires.settings),
            },
            "owner": self.owner,
            "expiresAt": self.expires_at.isoformat().replace("+00:00", "Z")
            if self.expires_at
            else None,
            "version": self.version,
        }

    def summary(self) -> str:
        """Return the policy in one word or figure: killed, stopped, on, off, a share, a list."""
        if self.kill:
            return "killed"
        if self.stopped:
            return "stopped"
        if self.percent_bp == ALL_BP:
            return "on"
        if self.percent_bp:
            return f"{self.percent_bp / 100:g}%"
        return f"{len(self.allow)} allowed" if self.allow else "off"


VARIANTS: Final = {
    "calendar": Variants(on="ai", safe="template"),
    "publish": Variants(on="live", safe="dry_run"),
}
# A flag may need a revision that is not shipped yet: then nobody can turn it on, and the
# refusal names the revision. `publish` waits for the one that adds publish_call.
REQUIRES: Final = {
    "calendar": Requires(schema="0003", settings=("ai",)),
    "publish": Requires(schema="0005"),
}
KEYS: Final = tuple(VARIANTS)


def first_values(*, development: bool, version: int) -> tuple[Policy, ...]:
    """Return the policies a new database begins with: all off, `calendar` on in development."""
    return tuple(
        Policy(
            key=key,
            kill=False,
            stopped=False,
            deny=(),
            allow=(),
            percent_bp=ALL_BP if development and key == "calendar" else 0,
            salt=f"{key}-1",
            variants=VARIANTS[key],
            requires=REQUIRES[key],
            owner="ops",
            expires_at=None,
            version=version,
        )
        for key in KEYS
    )


def from_wire(document: object) -> Policy:
    """Return the policy of a JSON document; raise Invalid that names every mistake in it."""
    try:
        wire = _PolicyWire.model_validate(document)
    except ValidationError as error:
        raise _refusal([_mistake(item) for item in error.errors(include_url=False)]) from None
    policy = Policy(
        key=wire.key,
        kill=wire.kill,
        stopped=wire.stopped,
        deny=tuple(wire.deny),
        allow=tuple(wire.allow),
        percent_bp=wire.percent_bp,
        salt=wire.salt,
        variants=Variants(on=wire.variants.on, safe=wire.variants.safe),
        requires=Requires(
            schema=wire.requires.schema_,
            flags=tuple(wire.requires.flags),
            settings=tuple(wire.requires.settings),
        ),
        owner=wire.owner,
        expires_at=wire.expires_at,
        version=wire.version,
    )
    if mistakes := _inconsistent(policy):
        raise _refusal(mistakes)
    return policy


def _user_id(text: str) -> str:
    if text != str(UUID(text)):
        raise ValueError("a user id is a lower-case UUID with hyphens")
    return text


def _distinct(items: list[str]) -> list[str]:
    if len(set(items)) != len(items):
        raise ValueError("the same entry stands in the list twice")
    return items


_UserIds = Annotated[
    list[Annotated[str, AfterValidator(_user_id)]],
    Field(max_length=LIST_LIMIT),
    AfterValidator(_distinct),
]
_Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class _Wire(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", alias_generator=to_camel, hide_input_in_errors=True
    )


class _VariantsWire(_Wire):
    on: _Word
    safe: _Word


class _RequiresWire(_Wire):
    schema_: Annotated[str, Field(pattern=r"^[0-9]{4}$")] | None = Field(alias="schema")
    flags: Annotated[list[_Word], AfterValidator(_distinct)]
    settings: Annotated[list[_Word], AfterValidator(_distinct)]


class _PolicyWire(_Wire):
    key: _Word
    kill: bool
    stopped: bool
    deny: _UserIds
    allow: _UserIds
    percent_bp: Annotated[int, Field(ge=0, le=ALL_BP)]
    salt: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
    variants: _VariantsWire
    requires: _RequiresWire
    owner: Annotated[str, Field(min_length=1, max_length=64)]
    # JSON has no instants: text is read, strictly in every other respect.
    expires_at: Annotated[AwareDatetime, Field(strict=False)] | None
    version: Annotated[int, Field(ge=0)]


def _mistake(item: ErrorDetails) -> Mistake:
    pointer = "".join(f"/{part}" for part in item["loc"])
    return Mistake(pointer=pointer, code=item["type"].upper(), fix=item["msg"])


def _inconsistent(policy: Policy) -> list[Mistake]:
    """Return what only the fields together can show to be wrong."""
    expected = VARIANTS.get(policy.key)
    if expected is None:
        fix = f"Use one of: {', '.join(KEYS)}"
        return [Mistake(pointer="/key", code="UNKNOWN_FLAG", fix=fix)]
    mistakes: list[Mistake] = []
    if policy.variants != expected:
        fix = f"The code knows only on={expected.on}, safe={expected.safe}"
        mistakes.append(Mistake(pointer="/variants", code="UNKNOWN_VARIANT", fix=fix))
    for at, needed in enumerate(policy.requires.flags):
        if needed not in VARIANTS or needed == policy.key:
            fix = "Name another flag that exists"
            mistakes.append(Mistake(pointer=f"/requires/flags/{at}", code="UNKNOWN_FLAG", fix=fix))
    return mistakes


def _refusal(mistakes: list[Mistake]) -> Invalid:
    first = mistakes[0]
    return Invalid(f"{first.pointer or '/'}: {first.fix}", mistakes=mistakes)

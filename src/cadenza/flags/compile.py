"""Policy to flagd document: one function, whose output is the same for the same policies.

The chain is kill, stopped, drill, deny, allow, percent, safe. Each link answers a flagd variant
named after the rule that decided; that variant's value is the word the product sees. So the
evaluator itself says why, and no second implementation of the chain can disagree with it.

Traps of flagd-core 2.0.0 that shape the document: a DISABLED flag answers the caller's default
(so every flag is ENABLED and off is a rule), an unknown branch falls to the else (so every else
is safe), `$evaluators` breaks on non-ASCII text (so there are none), and its own percentage
operator changed its hash between versions (so the bucket comes in as an attribute).
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Final

from cadenza.flags.policy import ALL_BP, Policy

DRILL_ON: Final = "drill_on"
DRILL_SAFE: Final = "drill_safe"
RULE_OF: Final = {
    "kill": "kill",
    "stopped": "stopped",
    DRILL_ON: "drill",
    DRILL_SAFE: "drill",
    "deny": "deny",
    "allow": "allow",
    "percent": "percent",
    "safe": "safe",
}
_ON: Final = frozenset({DRILL_ON, "allow", "percent"})


def bucket_of(*, salt: str, key: str, user_id: str) -> int:
    """Return the user's place from 0 to 9,999 under this flag and salt.

    The first 8 bytes, big-endian and unsigned, of SHA-256 over the UTF-8 bytes of
    `salt ":" key ":" user_id`, modulo 10,000. Neither salt nor key can hold a colon, so no two
    triples share their bytes. Fixed by golden vectors: a change would re-draw every user.
    """
    digest = hashlib.sha256(f"{salt}:{key}:{user_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % ALL_BP


def compile_set(policies: Iterable[Policy], *, set_version: int) -> str:
    """Return the flagd document of these policies as JSON text.

    Text, not a mapping, because the evaluator rewrites a mapping that it is given.
    """
    flags = {policy.key: _compile(policy) for policy in sorted(policies, key=lambda p: p.key)}
    document = {"flags": flags, "metadata": {"setVersion": set_version}}
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def _compile(policy: Policy) -> dict[str, object]:
    variants = policy.variants
    user = {"var": "targetingKey"}
    drill = {"var": "drill"}
    # A missing bucket counts as one past the last: nobody is let in by an absent attribute.
    bucket = {"var": ["bucket", ALL_BP]}
    chain: list[object] = [
        *(policy.kill, "kill"),
        *(policy.stopped, "stopped"),
        *({"===": [drill, variants.on]}, DRILL_ON),
        *({"===": [drill, variants.safe]}, DRILL_SAFE),
        *({"in": [user, list(policy.deny)]}, "deny"),
        *({"in": [user, list(policy.allow)]}, "allow"),
        *({"<": [bucket, policy.percent_bp]}, "percent"),
        "safe",
    ]
    return {
        "state": "ENABLED",
        "variants": {name: variants.on if name in _ON else variants.safe for name in RULE_OF},
        "defaultVariant": "safe",
        "targeting": {"if": chain},
        "metadata": {"version": policy.version},
    }

"""The second net: what is shaped like a credential never leaves, whatever field it hides in.

The first net is the allow-list of keys in `telemetry.log`. The shapes here also serve
`cadenza logs verify`, so what the one writes the other accepts.
"""

import re
from enum import Enum
from typing import Any, cast

REDACTED = "[redacted]"

SECRET = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # a JWT
    r"|(?i:\bbearer)\s+(?!\[redacted)[\w.~+/=-]{8,}"
    r"|(?i:\bauthorization)[\"']?\s*[:=]\s*[\"']?(?i:basic|token|digest)\s+(?!\[redacted)[^\s\"',]+"
    r"|\b(?:IGQV|IGAA|EAA|act\.|rft\.|clt\.)[\w.!-]{12,}"  # Instagram, Facebook, TikTok
    r"|\b(?:sk|pk|rk|sb|sbp|whsec|xox[a-z]|gh[pousr]|github_pat|glpat)[-_][\w.!-]{12,}"  # APIs
    r"|\bAIza[\w-]{30,}|\bAKIA[0-9A-Z]{16}\b"  # Google, Amazon
    r"|\b[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b"  # a Bluesky app password
    r"|\b\w[\w+.-]*://[^\s/:@\"'<>]*:(?!\[redacted)[^\s\"'<>]+@"  # a URL with a password in it
    r"|(?i:\b(?:password|passwd|pwd|passphrase|secret|token|api_?key|\w+_(?:token|secret|key)))"
    r"[\"']?\s*(?:=\s*[\"']?|:\s*[\"']|:\s*(?=\S*\d))"  # password=, "refresh_token": "..."
    r"(?!\[redacted)[^\s\"'&,;)\]}\[]{3,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*-----|\Z)"
)


# What one of these shapes cannot do without, in lower case: looking for them first makes a line
# without any ten times cheaper.
_TRACES = (
    *("eyj", "bearer", "authorization", "igqv", "igaa", "eaa", "act.", "rft.", "clt.", "aiza"),
    *("akia", "://", "pass", "pwd", "secret", "token", "key", "sk-", "sk_", "pk-", "pk_", "rk-"),
    *("rk_", "sb-", "sb_", "sbp", "whsec", "xox", "gh", "glpat"),
)
_SHORTEST = len("pwd=abc")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def redact(text: str) -> str:
    """Return the text with everything shaped like a credential replaced."""
    return SECRET.sub(REDACTED, text) if may_hold_secret(text) else text


def may_hold_secret(text: str) -> bool:
    """Say whether it is worth looking closely; never False for a text that SECRET matches."""
    if len(text) < _SHORTEST or _UUID.fullmatch(text):
        return False
    small = text.lower()
    for trace in _TRACES:
        if trace in small:
            return True
    return text.count("-") >= 3  # noqa: PLR2004  # a Bluesky app password has three


def redact_value(value: Any) -> Any:  # noqa: ANN401  # whatever a log line may carry
    """Return the value with every text in it redacted, however deep in dicts and lists."""
    if isinstance(value, str):
        return value if isinstance(value, Enum) else redact(value)  # an enum is a word of ours
    if isinstance(value, dict):
        inside = cast("dict[Any, Any]", value)
        return {redact_value(key): redact_value(item) for key, item in inside.items()}
    if isinstance(value, list | tuple):
        return [redact_value(item) for item in cast("list[Any]", value)]
    return value

"""What is shaped like a credential does not get out, by any way; what is not, does."""

import io
import json
import logging
from datetime import UTC, datetime

import pytest

from cadenza.events import FlagChanged, RequestFinished
from cadenza.telemetry.context import Context, entered
from cadenza.telemetry.log import Log, catch_libraries
from cadenza.telemetry.redact import SECRET, may_hold_secret, redact, redact_value

# Joined here, so that a scanner of this file finds nothing. The last part must never get out.
SECRETS = {
    "a JWT": ("eyJhbGciOiJIUzI1NiJ9", ".eyJzdWIiOiJhbGljZSJ9.dBjftJeZ4CVPmB92K27uhbUJU1p1r"),
    "a JWT without signature": ("eyJhbGciOiJub25lIn0", ".eyJzdWIiOiJhbGljZSJ9."),
    "a bearer header": ("Authorization: Bearer ", "Zm9vYmFyYmF6cXV4"),
    "a bearer alone": ("sent Bearer ", "Zm9vYmFyYmF6cXV4"),
    "a bearer in lower case": ("authorization: bearer ", "a.b-c_d~e+f/g=="),
    "a basic header": ("Authorization: Basic ", "YWxpY2U6c2VjcmV0"),
    "an Instagram token": ("IGQV", "JXaWxkLXRva2VuLTEyMzQ1Njc4"),
    "another Instagram token": ("IGAA", "JZAbc1234567890xyz"),
    "a Facebook token": ("EAA", "BsbCS1iHgBAKZC1234567890"),
    "a TikTok token": ("act.", "example12345Example12345Example"),
    "a TikTok refresh token": ("rft.", "example12345Example12345Example"),
    "an AI key": ("sk-", "proj-abcdEFGH1234567890"),
    "an older AI key": ("sk-", "abcdefghijklmnop1234"),
    "a Supabase key": ("sb_secret_", "N7UND0UgjKTVK-Uodkm0Hg"),
    "a webhook secret": ("whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    "a GitHub token": ("ghp_", "16C7e42F292c6912E7710c838347Ae178B4a"),
    "a chat token": ("xoxb-", "17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy"),
    "a Google key": ("AIza", "SyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe"),
    "an Amazon key": ("AKIA", "IOSFODNN7EXAMPLE"),
    "a Bluesky app password": ("", "xk2f-7rma-2qzd-p4wn"),
    "a DSN with a password": ("postgresql://cadenza_app:", "hunter2@db.example/postgres"),
    "a DSN whose password has an @": ("postgres://u:", "p@ss/w@db.example:6543/x"),
    "a URL with a password and no user": ("redis://:", "hunter2@cache.example:6379"),
    "a keyword of a DSN": ("host=db user=app password=", "hunter2-and-more"),
    "a query parameter": ("https://x.example/cb?access_token=", "abcdef123456"),
    "a JSON member": ('{"refresh_token": "', 'abcdef123456"}'),
    "a client secret": ("client_secret=", "0123456789abcdef"),
    "a private key": ("-----BEGIN PRIVATE KEY-----\n", "MIIEvQIBADANBgkqhkiG9w0BAQ"),
}
HARMLESS = [
    *("completed", "timeout_between", "/v1/calendars/{calendar_id}/runs", "instagram,tiktok"),
    *("9750dcc2-516e-5ea0-8a26-54fa6ff6986b", "2026-11-23T09:14:07.412Z", "a-client.id_42"),
    "password authentication failed for user cadenza_app",
    "https://ref.supabase.co/auth/v1 answered 503 in 12:30",
    "postgresql://db.example:5432/cadenza",
    "connection to server at 127.0.0.1, port 5432 failed: Connection refused",
    "The token has expired",
    "No token: send Authorization: Bearer and the token",
    "production needs CADENZA_JWT_SECRET, CADENZA_OPERATORS_FILE",
    "contract.something_longer_than_that",
    "task-4-of-the-week",
]


def written(*, with_libraries: bool = False) -> tuple[Log, io.BytesIO]:
    stream = io.BytesIO()
    log = Log(stream, version="0.1.0", replica="web-1:7f3a", clock=lambda: datetime.now(UTC))
    if with_libraries:
        catch_libraries(log, stream)
    return log, stream


def leaks(name: str, stream: io.BytesIO) -> bool:
    """Say whether what must never get out did, as it was or as JSON spells it."""
    tail = SECRETS[name][1].strip('"}')
    text = stream.getvalue().decode()
    assert text != ""
    return tail in text or json.dumps(tail)[1:-1] in text


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found_in_the_middle_of_a_text(name: str) -> None:
    secret = "".join(SECRETS[name])
    for text in (secret, f"it was {secret} before", f"it was '{secret}', before"):
        assert may_hold_secret(text)
        assert SECRETS[name][1].strip('"}') not in redact(text)
        assert SECRET.search(redact(text)) is None


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_the_quick_look_never_misses_what_the_close_one_finds() -> None:
    texts = ["".join(parts) for parts in SECRETS.values()]
    assert [text for text in texts if SECRET.search(text) and not may_hold_secret(text)] == []


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_planted_in_any_field_does_not_reach_the_log(name: str) -> None:
    secret = "".join(SECRETS[name])
    log, stream = written()
    with entered(Context(request_id=secret, user_id=secret, channel=secret)) as about:
        about.flags[secret] = secret
        log.note("process.instance.failed", message=f"because {secret}", mode=secret)
        log.note("process.instance.failed", error={"type": secret, "where": f"x {secret}"})
        log.event(RequestFinished(method=secret, route=secret, http_status=500, code=secret))
        log.event(FlagChanged(flag={"key": secret, "from": [{"salt": secret}], "to": (secret,)}))
    assert not leaks(name, stream)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_librarys_message_or_exception_does_not_reach_the_log(name: str) -> None:
    secret = "".join(SECRETS[name])
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    _, stream = written(with_libraries=True)
    try:
        logging.getLogger("psycopg.pool").warning("error connecting in %r: %s", "users", secret)
        try:
            raise ConnectionError(secret)  # noqa: TRY301
        except ConnectionError as error:
            logging.getLogger("asyncio").error("%s", error, exc_info=True)  # noqa: G201
    finally:
        root.handlers = handlers
        root.setLevel(level)
    assert stream.getvalue().count(b"\n") == 2
    assert not leaks(name, stream)


def test_redacting_keeps_the_shape_of_a_value() -> None:
    value = {"a": [1, None, {"b": "Bearer abcdefgh12345"}], "c": ("x", True)}
    assert redact_value(value) == {"a": [1, None, {"b": "[redacted]"}], "c": ["x", True]}


def test_redacting_twice_changes_nothing() -> None:
    for parts in SECRETS.values():
        once = redact("".join(parts))
        assert redact(once) == once

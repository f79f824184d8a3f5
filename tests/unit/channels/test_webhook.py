"""The webhook's body is exact, its key stable, and no secret is in the frozen request."""

import json
from datetime import UTC, datetime
from uuid import UUID

from cadenza.channels.adapter import Account, AccountState, Media, Post
from cadenza.channels.dryrun import DryRun
from cadenza.channels.webhook import Webhook

AT = datetime(2026, 12, 1, 8, tzinfo=UTC)
ACCOUNT = Account(
    id=UUID(int=1),
    channel="webhook",
    handle="https://hooks.example/in",
    time_zone="Europe/Madrid",
    state=AccountState.CONNECTED,
)
POST = Post(
    key="e1:a1:3",
    publish_at=AT,
    copy="Hello",
    hashtags=("a",),
    media=(Media(id="m1", mime="image/gif"),),
)


def test_the_body_is_the_bytes_that_the_signature_will_cover() -> None:
    calls = Webhook().frozen_request(POST, ACCOUNT)["calls"]
    body = json.loads(str(calls[0]["body"]["bytes"]))
    assert calls[0]["url"] == "https://hooks.example/in"
    assert calls[0]["headers"]["webhook-id"] == "e1:a1:3"
    assert "$later" in str(calls[0]["headers"]["webhook-signature"])
    assert body["timestamp"] == "2026-12-01T08:00:00Z"
    assert body["data"]["text"] == "Hello\n\n#a"
    assert body["data"]["media"][0]["id"] == "m1"


def test_the_dry_run_channel_keeps_the_text_it_was_given() -> None:
    calls = DryRun().frozen_request(POST, ACCOUNT)["calls"]
    assert calls[0]["body"]["text"] == "Hello\n\n#a"

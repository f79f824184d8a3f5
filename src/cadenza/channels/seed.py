"""Accounts to try things with: one per channel, for a development user."""

from uuid import NAMESPACE_URL, UUID, uuid5

from cadenza.channels.adapter import Account, AccountState
from cadenza.channels.registry import CHANNELS

_HANDLES = {"webhook": "https://webhook.invalid/cadenza", "bluesky": "cadenza.invalid"}


def development_accounts(user_id: UUID) -> list[Account]:
    """Return a connected account per channel; the same ids for the same user, every time.

    Their addresses are in `.invalid` (RFC 2606), so that nothing can ever be sent to them.
    """
    return [
        Account(
            id=uuid5(NAMESPACE_URL, f"urn:cadenza:development:{user_id}:{channel}"),
            channel=channel,
            handle=_HANDLES.get(channel, f"cadenza-{channel}"),
            time_zone="UTC",
            state=AccountState.CONNECTED,
        )
        for channel in CHANNELS
    ]

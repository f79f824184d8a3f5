"""The channels there are. A new one is one file and one line here."""

from types import MappingProxyType

from cadenza.channels.adapter import ChannelAdapter
from cadenza.channels.bluesky import Bluesky
from cadenza.channels.dryrun import DryRun
from cadenza.channels.instagram import Instagram
from cadenza.channels.tiktok import TikTok
from cadenza.channels.webhook import Webhook

_ALL: tuple[ChannelAdapter, ...] = (Instagram(), TikTok(), Bluesky(), Webhook(), DryRun())

CHANNELS: tuple[str, ...] = tuple(adapter.name for adapter in _ALL)
"""Every channel's name, in the order they are shown."""

ADAPTERS = MappingProxyType({adapter.name: adapter for adapter in _ALL})
"""The adapter of each channel, by name."""

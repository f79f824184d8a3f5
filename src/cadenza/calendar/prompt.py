"""What the model is told: the rules once, and the request as one JSON document."""

from collections.abc import Sequence
from typing import Final

import orjson

from cadenza.calendar.request import RunRequest, Slot

RULES: Final = """\
You plan social media posts. The user's message is one JSON document that describes a calendar.
Write exactly one post for every slot in its "slots", in that order, following its "brief" and
"constraints" where it has them.

Answer in JSON Lines and nothing else: one complete JSON object on one line per post, a line break
after each. No list around them, no code fence, no words before, between or after.

Keys of each object:
"title"           a short working title
"channel"         the slot's channel, unchanged
"format"          such as post, carousel, story, reel or video
"copy"            the text to publish
"script"          for video what is said and shown, otherwise null
"targetAudience"  whom it speaks to, or null
"date"            the slot's date, unchanged
"time"            the slot's time as HH:MM
"hashtags"        a list of words without #
"""


def document(request: RunRequest, wanted: Sequence[Slot]) -> str:
    """Return the user's message: one JSON document with the slots to fill and what guides them."""
    body = {
        "channels": request.channels,
        "cadence": request.cadence,
        "start": request.start,
        "end": request.end,
        "timezone": request.timezone,
        "brief": request.brief,
        "constraints": dict(request.constraints),
        "slots": wanted,
    }
    return orjson.dumps(body, default=str).decode()

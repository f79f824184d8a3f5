"""The generator that needs nobody: one entry per slot that a creator can start from."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from cadenza.calendar.generator import Drafted, Ended, Rejected, RunStatus
from cadenza.calendar.request import MAX_SLOTS, Draft, RunRequest, Slot, slots

_TOPIC_CHARS: Final = 60


@dataclass(frozen=True, slots=True)
class Idea:
    """One kind of post that works for most topics; the texts take `{topic}`."""

    title: str
    copy: str
    shots: str
    tag: str


# Nothing to fill in: whoever publishes one of these unread must not be embarrassed by it.
IDEAS: Final = (
    Idea(
        "Say hello: {topic}",
        "New here? Welcome. We post about {topic}. Tell us what brought you.",
        "Face to camera: who you are, what {topic} gives people, one question to answer.",
        "welcome",
    ),
    Idea(
        "One tip on {topic}",
        "What is the one thing you wish you had known earlier about {topic}? "
        "We collect the best tips.",
        "Show the problem for three seconds, then the tip in your hands, then the result.",
        "tips",
    ),
    Idea(
        "Behind the scenes of {topic}",
        "There is more behind {topic} than meets the eye. What would you like to see?",
        "Three short takes of real work, no music over your own voice, end on the detail.",
        "behindthescenes",
    ),
    Idea(
        "A question about {topic}",
        "Honest question: what matters most to you about {topic}? We read every answer.",
        "Hold up two things, ask which; leave two seconds of silence at the end.",
        "yourturn",
    ),
    Idea(
        "A myth about {topic}",
        "What do people get wrong about {topic}? Tell us the best myth you have heard.",
        "Say the myth, shake your head, show the proof on screen with its source.",
        "mythbusting",
    ),
    Idea(
        "Someone's story with {topic}",
        "Do you have a story with {topic}? Tell it in one sentence, we would love to read it.",
        "Before, the turning point, after: one sentence each, in the words of the person.",
        "stories",
    ),
    Idea(
        "What we learned about {topic}",
        "A little time to look back at {topic}. What have you learned lately?",
        "Count on your fingers, one take each, the boldest one last.",
        "lessons",
    ),
)

_FORMATS: Final = {"instagram": "carousel", "tiktok": "video"}


class TemplateGenerator:
    """Drafts the same entries for the same request, with no network and no model behind it."""

    @property
    def variant(self) -> str:
        """The flag's variant that this generator serves."""
        return "template"

    async def entries(self, request: RunRequest) -> AsyncGenerator[Drafted | Rejected | Ended]:
        """Yield one entry per slot, at most MAX_SLOTS, and then the end: always completed."""
        topic = _topic(request.brief)
        for index, slot in enumerate(slots(request)[:MAX_SLOTS]):
            yield Drafted(_draft(slot, _idea(request, index), topic, request.timezone))
        yield Ended(status=RunStatus.COMPLETED)


def _idea(request: RunRequest, index: int) -> Idea:
    """Take turns by day, each channel one idea on, so that no day says the same thing twice."""
    day, channel = divmod(index, len(request.channels))
    return IDEAS[(day + channel) % len(IDEAS)]


def _topic(brief: str | None) -> str:
    """Return the brief's first line as words that fit into a sentence."""
    first = next(iter((brief or "").strip().splitlines()), "").strip().rstrip(".!?")
    if len(first) <= _TOPIC_CHARS:
        return first or "what we do"
    return first[:_TOPIC_CHARS].rpartition(" ")[0] or first[:_TOPIC_CHARS]


def _draft(slot: Slot, idea: Idea, topic: str, timezone: str) -> Draft:
    video = slot.channel == "tiktok"
    return Draft(
        title=idea.title.replace("{topic}", topic),
        channel=slot.channel,
        format=_FORMATS.get(slot.channel, "post"),
        copy=idea.copy.replace("{topic}", topic),
        script=idea.shots.replace("{topic}", topic) if video else None,
        target_audience=None,
        date=slot.date,
        time=slot.time,
        timezone=timezone,
        hashtags=(idea.tag,),
        media=(),
    )

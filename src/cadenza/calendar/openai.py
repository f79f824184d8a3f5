"""The generator that asks a model, at any endpoint that speaks OpenAI's chat completions.

Silence is judged by content alone: bytes, comments, empty deltas and usage chunks move no deadline.
What the model finished before a fault is kept, and a fault is an end, never an exception.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from cadenza.calendar.generator import Drafted, Ended, Rejected, RunStatus
from cadenza.calendar.listen import Deadlines, Fault, Listener, Watch, retry_after_s
from cadenza.calendar.prompt import RULES, document
from cadenza.calendar.request import MAX_SLOTS, RunRequest, slots
from cadenza.calendar.sieve import Sieve
from cadenza.errors import Reason

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncStream
    from openai.types.chat import ChatCompletionChunk

Stream: TypeAlias = "AsyncStream[ChatCompletionChunk]"

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SERVER_ERROR = 500


def pause_before_retry_s() -> float:
    """Return a quarter to three quarters of a second, so that retries do not come in step."""
    return random.SystemRandom().uniform(0.25, 0.75)


class OpenAIGenerator:
    """Drafts entries with a model; one for the whole process, closed at its end.

    A connect failure, a 429 or a 5xx is tried once more, after the provider's Retry-After or
    `jitter_s`, if the total deadline leaves room for it; nothing is repeated once an answer began.
    The connect deadline holds for each of the two tries, the first-content deadline begins anew
    with the second, the total spans both. A proxy of the environment is used, except for loopback.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        model: str,
        deadlines: Deadlines | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter_s: Callable[[], float] = pause_before_retry_s,
    ) -> None:
        import openai  # noqa: PLC0415 - the SDK takes a second to import; most commands need none

        self._deadlines = deadlines or Deadlines()
        self._model = model
        self._sleep = sleep
        self._jitter_s = jitter_s
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # local endpoints take no key, the SDK wants one
            max_retries=0,
            http_client=_http_client(base_url, self._deadlines),
        )
        # The SDK takes these two from variables that are no settings of ours.
        self._client.organization = None
        self._client.project = None
        self._completions = (
            self._client.chat.completions
        )  # here, so that no run waits for its import

    @property
    def variant(self) -> str:
        """The flag's variant that this generator serves."""
        return "ai"

    async def aclose(self) -> None:
        """Close the connections; the runs that use them should have ended before."""
        await self._client.close()

    async def entries(self, request: RunRequest) -> AsyncGenerator[Drafted | Rejected | Ended]:
        """Yield what the model drafts, then one Ended; the total deadline begins with the call.

        The deadline between contents rests while the caller holds an item, the total does not.
        """
        wanted = slots(request)[:MAX_SLOTS]
        asked = document(request, wanted)
        asked_chars = len(RULES) + len(asked)
        sieve = Sieve(request, expected=len(wanted))
        listener = Listener(Watch(self._deadlines, asyncio.get_running_loop().time))
        stream = await self._open(asked, listener.watch)
        if isinstance(stream, Fault):
            yield listener.counted(stream.ended(), asked_chars=asked_chars, content_chars=0)
            return
        try:
            while isinstance(heard := await _hear(stream, listener), str):
                for found in sieve.feed(heard):
                    yield found
                if sieve.is_full:
                    heard = sieve.cut_short()
                    break
                listener.watch.expect_more()
        finally:
            await stream.close()
        if listener.is_finished and heard.status is RunStatus.COMPLETED:
            for unfinished in sieve.rest():
                yield unfinished
        yield listener.counted(heard, asked_chars=asked_chars, content_chars=sieve.content_chars)

    async def _open(self, asked: str, watch: Watch) -> "Stream | Fault":
        opened = await self._call(asked, watch)
        if not (isinstance(opened, Fault) and opened.is_retryable):
            return opened
        wait_s = opened.retry_after_s or self._jitter_s()
        if wait_s >= watch.left_s():
            return opened
        await self._sleep(wait_s)
        return await self._call(asked, watch)

    async def _call(self, asked: str, watch: Watch) -> "Stream | Fault":
        watch.expect_first()
        try:
            async with asyncio.timeout_at(watch.until):
                return await self._completions.create(
                    model=self._model,
                    messages=[
                        {"role": "system", "content": RULES},
                        {"role": "user", "content": asked},
                    ],
                    stream=True,
                    stream_options={"include_usage": True},
                )
        except TimeoutError:
            return watch.missed()
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises here, the provider caused
            return _fault(error)


async def _hear(stream: "Stream", listener: Listener) -> str | Ended:
    """Wait for the next content; after the model's finish an end, whatever happens then."""
    watch = listener.watch
    while not watch.is_over():
        try:
            async with asyncio.timeout_at(watch.until):
                chunk = await anext(stream)
            content = listener.take(chunk)
        except StopAsyncIteration:
            return listener.ended_by(Fault(RunStatus.FAILED, Reason.PROVIDER_TRUNCATED))
        except TimeoutError:
            break
        except Exception as error:  # noqa: BLE001 - a frame the SDK cannot read is the provider's
            return listener.ended_by(_fault(error))
        if content:
            return content
    return listener.ended_by(watch.missed())


def _http_client(base_url: str, deadlines: Deadlines) -> "httpx2.AsyncClient":
    import httpx2  # noqa: PLC0415 - comes with the SDK, and as late

    wait_s = deadlines.connect_s
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(connect=wait_s, pool=wait_s, read=None, write=None),
        limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        trust_env=urlsplit(base_url).hostname not in _LOOPBACK,
    )


def _fault(error: Exception) -> Fault:
    import httpx2  # noqa: PLC0415 - loaded long before the first fault
    import openai  # noqa: PLC0415

    never_there = (httpx2.ConnectError, httpx2.ProxyError, httpx2.UnsupportedProtocol)
    match error:
        case openai.APITimeoutError():  # connecting is all that the client itself limits
            return Fault(RunStatus.TIMEOUT, Reason.TIMEOUT_CONNECT, is_retryable=True)
        case openai.APIConnectionError() if isinstance(error.__cause__, never_there):
            return Fault(RunStatus.FAILED, Reason.PROVIDER_UNREACHABLE, is_retryable=True)
        case openai.APIConnectionError():
            return Fault(RunStatus.FAILED, Reason.PROVIDER_CONNECTION_LOST, is_retryable=True)
        case openai.APIStatusError():
            limited = isinstance(error, openai.RateLimitError)
            return Fault(
                RunStatus.FAILED,
                Reason.PROVIDER_RATE_LIMITED if limited else Reason.PROVIDER_HTTP_ERROR,
                is_retryable=limited or error.status_code >= _SERVER_ERROR,
                retry_after_s=retry_after_s(error.response.headers),
            )
        case _:
            return Fault(RunStatus.FAILED, Reason.PROVIDER_STREAM_ERROR)

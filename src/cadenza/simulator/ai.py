"""The routes of the simulated AI provider: OpenAI's chat completions, and its control."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cadenza.simulator.answer import FOREVER_S, Answer, frames
from cadenza.simulator.draft import lines, slots_of
from cadenza.simulator.scenarios import PREFIX, SCENARIOS, Fault, Scenario
from cadenza.simulator.state import AiState, Control, Seen


class _Message(BaseModel):
    role: str
    content: str = ""


class _Completion(BaseModel):
    """What of a request the simulator reads; the rest is passed over as providers do."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: Annotated[list[_Message], Field(min_length=1)]
    stream: bool = False


def ai_routes(state: AiState) -> list[Route]:
    """Return the provider's routes, all over the same state."""

    async def complete(request: Request) -> Response:
        return await _complete(state, request)

    async def control(request: Request) -> Response:
        return await _control(state, request)

    return [
        Route("/v1/chat/completions", complete, methods=["POST"]),
        Route("/v1/models", _models, methods=["GET"]),
        Route("/_sim/ai", control, methods=["GET", "PUT", "DELETE"]),
    ]


async def _models(_request: Request) -> Response:
    known = [
        {"id": PREFIX + name, "object": "model", "created": 0, "owned_by": "simulator"}
        for name in SCENARIOS
    ]
    return JSONResponse({"object": "list", "data": known})


async def _control(state: AiState, request: Request) -> Response:
    if request.method == "PUT":
        try:
            told = Control.model_validate_json(await request.body())
        except ValidationError as error:
            return _error(422, "invalid_control", str(error.error_count()) + " mistakes")
        if told.tuned() is None:
            return _error(422, "invalid_control", "Known scenarios: " + ", ".join(SCENARIOS))
        state.obey(told)
    elif request.method == "DELETE":
        state.obey(None)
    return JSONResponse(state.shown())


async def _complete(state: AiState, request: Request) -> Response:
    try:
        asked = _Completion.model_validate_json(await request.body())
    except ClientDisconnect:  # killed while it asked, as drills do
        return Response()
    except ValidationError:
        return _error(400, "invalid_request_error", "This is no chat completion request")
    chosen = state.choose(asked.model)
    if chosen is None:
        return _error(404, "model_not_found", "Models are listed at /v1/models")
    name, scenario = chosen
    prompt = asked.messages[-1].content
    seen = Seen(model=asked.model, scenario=name, slots=slots_of(prompt))
    state.counts[name] += 1
    state.seen.append(seen)
    if scenario.http_status != 200:  # noqa: PLR2004 - HTTP's own number
        seen.ended = "refused"
        return _refusal(scenario)
    answer = Answer(
        scenario=scenario,
        lines=lines(seen.slots, scenario),
        model=asked.model,
        prompt_tokens=sum(len(message.content) for message in asked.messages) // 4,
        cut=_cut_of(request),
    )
    if asked.stream:
        return StreamingResponse(_watched(answer, seen), media_type="text/event-stream")
    return await _at_once(answer, seen)


def _refusal(scenario: Scenario) -> Response:
    if scenario.http_status == 429:  # noqa: PLR2004
        return _error(429, "rate_limit_error", "Too many requests", {"Retry-After": "1"})
    return _error(scenario.http_status, "server_error", "The server had an error")


async def _watched(answer: Answer, seen: Seen) -> AsyncGenerator[bytes]:
    """Pass the frames on and note how it ended: by itself, by the scenario, or by the client."""
    seen.ended = "streaming"
    try:
        async for frame in frames(answer):
            yield frame
        seen.ended = answer.scenario.fault or "finished"
    finally:
        if seen.ended == "streaming":
            seen.ended = "client_left"


async def _at_once(answer: Answer, seen: Seen) -> Response:
    if answer.scenario.fault is Fault.CUT:
        answer.cut()
    elif answer.scenario.fault is not None:
        await asyncio.sleep(FOREVER_S)
    seen.ended = "finished"
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": answer.scenario.finish}
    return JSONResponse(
        {
            "id": "chatcmpl-simulated",
            "object": "chat.completion",
            "created": 0,
            "model": answer.model,
            "choices": [choice],
            "usage": answer.usage,
        }
    )


def _cut_of(request: Request) -> Callable[[], None]:
    """Return what resets this connection; without our own server underneath, nothing can."""
    cut: Callable[[], None] | None = request.scope.get("cadenza.cut")
    if cut is None:
        return lambda: None
    return cut


def _error(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    body = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
    return JSONResponse(body, status_code=status, headers=headers)

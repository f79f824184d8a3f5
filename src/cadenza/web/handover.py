"""Serve a stream around the application, so that an open one keeps nothing of the framework.

A route's response runs inside everything that led to it: exit stacks, requests, a dozen waiting
calls, about 10 kB that a stream of minutes has no use for, and a few calls more for each frame.
Inside this layer a route may return a response that only puts itself into `scope[HANDOVER]`; it
is served when the application has returned and freed all that.
"""

from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

HANDOVER = "cadenza.handover"
_CLOSED_STACKS = ("fastapi_middleware_astack", "fastapi_inner_astack", "fastapi_function_astack")


class Served(Protocol):
    """A response that can be served after its route has returned."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it to its end."""
        ...

    def abandon(self) -> None:
        """Let go of it: it will not be served."""
        ...


class Handover:
    """The layer; it belongs around the application, and within the one that logs the request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application, then serve what it handed over."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        handed_over: list[Served] = []
        scope[HANDOVER] = handed_over
        try:
            await self.app(scope, receive, send)
        except BaseException:
            for response in handed_over:
                response.abandon()
            raise
        if handed_over:
            for name in _CLOSED_STACKS:
                scope.pop(name, None)
            await handed_over.pop().serve(scope, receive, send)

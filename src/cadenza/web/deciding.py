"""One flag's decision for the caller of a request, a drill's included; pinned into its log."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from cadenza.db.pool import Conn
from cadenza.events import Lane
from cadenza.flags.drill import Drill
from cadenza.flags.evaluate import Decision
from cadenza.flags.live import Flags
from cadenza.flags.store import find_drill
from cadenza.telemetry.context import current
from cadenza.web.auth import User, require_user
from cadenza.web.parts import runtime_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Decides one flag for one user, as often as asked: the flags may change between."""

    flags: Flags
    key: str
    user_id: str
    drill: Drill | None

    @property
    def lane(self) -> Lane:
        """Return the lane the work belongs to."""
        return Lane.LIVE if self.drill is None else Lane.DRILL

    def __call__(self) -> Decision:
        """Return the decision as of now, and note it in the request's context."""
        decision = self.flags.evaluate(self.key, self.user_id, drill=self.drill)
        current().flags[self.key] = decision.label
        return decision


def deciding(key: str) -> Callable[..., Awaitable[Decide]]:
    """Return the dependency that decides `key`.

    Its request is refused when it names a drill that is not open for this user.
    """

    async def decide(
        request: Request,
        user: Annotated[User, Depends(require_user)],
        drill_id: Annotated[str | None, Header(alias="X-Cadenza-Drill")] = None,
    ) -> Decide:
        runtime = runtime_of(request)
        drill = None
        if drill_id is not None:

            async def work(conn: Conn) -> Drill:
                return await find_drill(conn, drill_id=drill_id, user_id=user.id)

            drill = await runtime.database.as_worker(work)
            current().lane = Lane.DRILL
        return Decide(flags=runtime.flags, key=key, user_id=user.id, drill=drill)

    return decide

"""`cadenza token`: a development user's token, as Supabase would issue it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cadenza.cli.home import ISSUER, read_development, user_id
from cadenza.cli.output import AsJson, person, print_json, print_line
from cadenza.errors import Conflict, Unavailable
from cadenza.settings import Profile, Settings, read_settings
from cadenza.web.auth import issue_token

DAY_S = 86_400


def add_to(cli: typer.Typer) -> None:
    """Add the verb to the command line."""
    cli.command("token")(token)


def token(
    user: Annotated[str, typer.Option(help="Any name; the same name is the same user.")],
    ttl: Annotated[int, typer.Option(min=1, help="Seconds until it expires.")] = DAY_S,
    *,
    as_json: AsJson = False,
) -> None:
    """Print a token for a development user; who that is goes to stderr.

    The token alone goes to stdout, for TOKEN=$(cadenza token --user alice).
    """
    settings = read_settings()
    if settings.env is Profile.PRODUCTION:
        raise Conflict("Production has no token issuer: a token comes from its Supabase project")
    issued = datetime.now(UTC)
    made = development_token(settings, user, ttl_s=ttl, now=issued)
    expires = (issued + timedelta(seconds=ttl)).isoformat(timespec="seconds")
    sub = str(user_id(user))
    if as_json:
        print_json({"user": user, "sub": sub, "expiresAt": expires, "token": made})
        return
    print_line(made)
    person().print(f"sub {sub} ({user}), expires {expires}", style="dim", markup=False)


def development_token(settings: Settings, user: str, *, ttl_s: float, now: datetime) -> str:
    """Return a token of this home's development instance; Unavailable where `up` never ran."""
    known = read_development(settings.home)
    if known is None and settings.jwt_secret is None:
        raise Unavailable(f"There is no instance in {settings.home} yet: run `cadenza up` first")
    chosen = settings.jwt_secret.get_secret_value() if settings.jwt_secret else ""
    return issue_token(
        secret=chosen or (known.jwt_secret if known else ""),
        issuer=settings.jwt_issuer or ISSUER,
        audience=settings.jwt_audience,
        sub=str(user_id(user)),
        ttl_s=ttl_s,
        now=now,
    )

"""Every knob, CADENZA_*, read once; an unknown CADENZA_* name is refused, not ignored.

Read by the composition root, the CLI and the drills only: everything below gets plain values.
`docs/reference/settings.md` is generated from the descriptions here.
"""

import difflib
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from cadenza.errors import CadenzaError

PREFIX = "CADENZA_"
_OWN_NAMES = ("CALENDAR_SERVICE_ENABLED", "PUBLISH_SERVICE_ENABLED")  # older than the prefix
_OFF = frozenset({"false", "0", "off", "no"})
_ON = frozenset({"true", "1", "on", "yes"})


class Profile(StrEnum):
    """Where this process runs: on a developer's machine, or for real."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class SettingsRefused(CadenzaError):
    """The environment cannot be used; the text names each setting and its cure."""

    code = "SETTINGS_REFUSED"


class Settings(BaseModel):
    """What the operator chose. Frozen; secrets do not show in its repr."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    env: Profile = Field(
        Profile.DEVELOPMENT,
        description="`development` brings its own database, simulator and tokens; `production` "
        "brings nothing and names what is missing. Required as soon as DATABASE_URL is set.",
    )
    home: Path = Field(
        Path(".cadenza"), description="Folder for everything this instance keeps on disk."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=1, le=65535, description="Port to listen on.")
    database_url: SecretStr | None = Field(
        None,
        description="Postgres to use, as a login that is a member of `authenticated`, "
        "`cadenza_worker` and `cadenza_ops`; a transaction-mode pooler is fine. Unset in "
        "development: the embedded one.",
    )
    migrate_database_url: SecretStr | None = Field(
        None, description="Direct (not pooled) Postgres URL of the schema's owner, for migrations."
    )
    ai_base_url: str | None = Field(
        None,
        description="Any OpenAI-compatible endpoint, ending in `/v1`. Unset in development: the "
        "simulator.",
    )
    ai_api_key: SecretStr | None = Field(None, description="Key for that endpoint.")
    ai_model: str | None = Field(None, description="Model to ask for.")
    ai_connect_s: float = Field(5.0, gt=0, description="Seconds to connect to the AI provider.")
    ai_first_s: float = Field(12.0, gt=0, description="Seconds to the first content of a run.")
    ai_between_s: float = Field(5.0, gt=0, description="Seconds between two pieces of content.")
    ai_total_s: float = Field(30.0, gt=0, description="Seconds for a whole run.")
    log_file: Path | None = Field(
        None,
        description="File for the JSON log. Unset: stdout, in development `cadenza.log` in the "
        "home.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is written."
    )
    log_user_id: Literal["plain", "hmac"] = Field(
        "plain", description="`hmac` writes a keyed hash instead of the user's id."
    )
    jwt_secret: SecretStr | None = Field(
        None,
        min_length=32,
        description="Secret of Supabase's HS256 tokens, 32 bytes or more.",
    )
    jwt_issuer: str | None = Field(
        None, description="Required `iss` of tokens, such as `https://<ref>.supabase.co/auth/v1`."
    )
    jwt_audience: str = Field("authenticated", description="Required `aud` of tokens.")
    operators_file: Path | None = Field(
        None, description="JSON list of operators: name, sha256 of token, role."
    )
    public_url: str | None = Field(
        None, description="How clients reach this service; used in links to the playbook."
    )
    request_budget_s: float = Field(
        1.5, gt=0, description="Seconds of database time one request may take, waiting included."
    )
    run_lease_s: float = Field(10.0, gt=0, description="Seconds a silent producer keeps its run.")
    heartbeat_s: float = Field(15.0, gt=0, description="Seconds between comments on idle streams.")
    flags_poll_s: float = Field(0.5, gt=0, description="Seconds between looks at the flags.")
    drain_s: float = Field(10.0, gt=0, description="Seconds a stop may take to end what runs.")
    calendar_service_enabled: bool | None = Field(
        None,
        description="`false`, `0`, `off` or `no`: hard kill of `calendar`, shown as OVERRIDE. "
        "Anything true is ignored with a note: the database decides.",
    )
    publish_service_enabled: bool | None = Field(
        None,
        description="The same hard kill, for `publish`.",
    )

    @property
    def hard_kills(self) -> frozenset[str]:
        """Return the flags that the environment holds off, whatever the database says."""
        chosen = {
            "calendar": self.calendar_service_enabled,
            "publish": self.publish_service_enabled,
        }
        return frozenset(key for key, enabled in chosen.items() if enabled is False)

    @property
    def ignored_switches(self) -> list[str]:
        """Return the flags that the environment says are on, which it cannot decide."""
        chosen = {
            "calendar": self.calendar_service_enabled,
            "publish": self.publish_service_enabled,
        }
        return [key for key, enabled in chosen.items() if enabled is True]

    @property
    def present(self) -> frozenset[str]:
        """Return the names a flag's `requires.settings` may ask for and that are there."""
        return frozenset({"ai"} if self.ai_base_url and self.ai_model else ())


def read_settings(
    environment: Mapping[str, str] | None = None, *, to_serve: bool = False
) -> Settings:
    """Return the settings of this environment; raise SettingsRefused with every mistake named.

    With `to_serve` they must be all that an instance needs; a verb that only asks one needs less.
    """
    # The one place that reads the environment.
    environment = os.environ if environment is None else environment  # noqa: TID251
    known = {PREFIX + name.upper(): name for name in Settings.model_fields if "service" not in name}
    known_names = [*sorted(known), PREFIX + "URL", PREFIX + "OPERATOR_TOKEN"]
    mistakes = [
        _unknown(name, [*known_names, *_OWN_NAMES])
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known_names
    ]
    if environment.get(PREFIX + "DATABASE_URL") and not environment.get(PREFIX + "ENV"):
        mistakes.append(
            f"{PREFIX}DATABASE_URL is set without {PREFIX}ENV: say {PREFIX}ENV=production "
            f"(or development, if that database is yours to play with)"
        )
    values: dict[str, object] = {
        field: environment[name] for name, field in known.items() if environment.get(name)
    }
    for name in _OWN_NAMES:
        word = environment.get(name)
        if word is not None and word.lower() not in _OFF | _ON:
            mistakes.append(f"{name}={word!r} is neither on nor off: use true or false")
        elif word is not None:
            values[name.lower()] = word.lower() in _ON
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        mistakes += [_invalid(item["loc"], item["msg"]) for item in error.errors()]
    else:
        mistakes += _missing(settings) if to_serve else []
        if not mistakes:
            return settings
    raise SettingsRefused("\n".join(mistakes))


def _missing(settings: Settings) -> list[str]:
    needed = {"ai_base_url": "ai_model", "ai_model": "ai_base_url"}
    if settings.env is Profile.DEVELOPMENT:  # it brings the endpoint along, not the model's name
        needed.pop("ai_model")
    mistakes = [
        f"{PREFIX}{given.upper()} is set without {PREFIX}{other.upper()}: set both, or neither"
        for given, other in needed.items()
        if getattr(settings, given) is not None and getattr(settings, other) is None
    ]
    if settings.env is Profile.PRODUCTION:
        absent = [
            PREFIX + name.upper()
            for name in ("database_url", "jwt_secret", "jwt_issuer", "operators_file")
            if getattr(settings, name) is None
        ]
        mistakes += ["production needs " + ", ".join(absent)] if absent else []
    return mistakes


def _unknown(name: str, known: list[str]) -> str:
    # Compared without the prefix: it would make every name look like every other.
    short = {each.removeprefix(PREFIX): each for each in known}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), short, n=1, cutoff=0.5)
    hint = f"did you mean {short[near[0]]}?" if near else "see docs/reference/settings.md"
    return f"{name} is not a setting of Cadenza: {hint}"


def _invalid(loc: tuple[int | str, ...], message: str) -> str:
    name = PREFIX + str(loc[0]).upper() if loc else "settings"
    return f"{name}: {message.removeprefix('Value error, ')}"

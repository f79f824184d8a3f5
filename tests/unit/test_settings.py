"""The environment as people write it: what is understood, what is refused, and what is said."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from cadenza.settings import PREFIX, Profile, Settings, SettingsRefused, read_settings

PASSWORD = "hunter2"  # noqa: S105  # planted, to be looked for
URL = f"postgresql://cadenza_app:{PASSWORD}@db.example:6543/postgres"
PRODUCTION = {
    "CADENZA_ENV": "production",
    "CADENZA_DATABASE_URL": URL,
    "CADENZA_JWT_SECRET": "a secret of tests, long enough for HS256",
    "CADENZA_JWT_ISSUER": "https://ref.supabase.co/auth/v1",
    "CADENZA_OPERATORS_FILE": "operators.json",
}


def refused(environment: dict[str, str]) -> str:
    with pytest.raises(SettingsRefused) as error:
        read_settings(environment, to_serve=True)
    assert error.value.detail == str(error.value)
    return error.value.detail


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in PRODUCTION.items() if name not in names}


def test_nothing_set_is_a_developers_machine() -> None:
    settings = read_settings({})
    assert (settings.env, settings.home) == (Profile.DEVELOPMENT, Path(".cadenza"))
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.hard_kills == settings.present == frozenset()


def test_a_complete_production_is_accepted() -> None:
    settings = read_settings(PRODUCTION, to_serve=True)
    assert settings.env is Profile.PRODUCTION
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == URL


def test_an_ai_endpoint_without_a_model_is_named_before_anything_starts() -> None:
    for given in ("CADENZA_AI_BASE_URL", "CADENZA_AI_MODEL"):
        told = refused(PRODUCTION | {given: "http://127.0.0.1:1/v1"})
        assert "CADENZA_AI_BASE_URL" in told
        assert "CADENZA_AI_MODEL" in told
    assert read_settings({"CADENZA_AI_MODEL": "sim-slow"}, to_serve=True)  # of the simulator


def test_a_verb_that_only_asks_needs_no_complete_production() -> None:
    assert read_settings({"CADENZA_ENV": "production"}).env is Profile.PRODUCTION


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("CADENZA_DATABSE_URL", "CADENZA_DATABASE_URL"),
        ("CADENZA_JWT_SECERT", "CADENZA_JWT_SECRET"),
        ("CADENZA_LOGLEVEL", "CADENZA_LOG_LEVEL"),
        ("CADENZA_HOMES", "CADENZA_HOME"),
        ("CADENZA_DATABASE_DSN", "CADENZA_DATABASE_URL"),
        ("CADENZA_OPERATOR_FILE", "CADENZA_OPERATORS_FILE"),
        ("CADENZA_CALENDAR_SERVICE_ENABLED", "CALENDAR_SERVICE_ENABLED"),
    ],
)
def test_a_misspelt_name_is_refused_and_the_nearest_one_suggested(
    misspelt: str, meant: str
) -> None:
    assert refused({misspelt: "x"}) == (
        f"{misspelt} is not a setting of Cadenza: did you mean {meant}?"
    )


def test_a_name_like_no_other_leads_to_the_list() -> None:
    assert "docs/reference/settings.md" in refused({"CADENZA_QQQQQQQQQQQQ": "x"})


def test_other_peoples_variables_are_not_ours_to_judge() -> None:
    assert read_settings({"PATH": "/bin", "DATABASE_URL": "x", "CADENZ": "y", "cadenza_x": "z"})


@pytest.mark.parametrize("name", ["CADENZA_URL", "CADENZA_OPERATOR_TOKEN"])
def test_what_only_the_command_line_reads_is_no_mistake(name: str) -> None:
    assert read_settings({name: "x"}) == read_settings({})


@pytest.mark.parametrize("missing", [name for name in PRODUCTION if name != "CADENZA_ENV"])
def test_production_names_what_is_missing(missing: str) -> None:
    assert missing in refused(without(missing))


def test_production_names_everything_that_is_missing_at_once() -> None:
    told = refused({"CADENZA_ENV": "production"})
    assert all(name in told for name in PRODUCTION if name != "CADENZA_ENV")


def test_a_database_without_a_profile_is_a_question_not_a_guess() -> None:
    told = refused({"CADENZA_DATABASE_URL": URL})
    assert "CADENZA_ENV=production" in told
    assert PASSWORD not in told
    assert read_settings({"CADENZA_DATABASE_URL": URL, "CADENZA_ENV": "development"})


def test_every_mistake_is_named_in_one_go() -> None:
    told = refused(
        {
            "CADENZA_HOMES": "x",
            "CADENZA_PORT": "many",
            "CADENZA_LOG_LEVEL": "loud",
            "CALENDAR_SERVICE_ENABLED": "perhaps",
            "CADENZA_DATABASE_URL": URL,
        }
    )
    assert len(told.splitlines()) == 5
    for name in ("CADENZA_HOMES", "CADENZA_PORT", "CADENZA_LOG_LEVEL", "CALENDAR_SERVICE_ENABLED"):
        assert name in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("PORT", "0"), ("PORT", "65536"), ("PORT", "http")),
        *(("ENV", "prod"), ("ENV", "PRODUCTION"), ("LOG_LEVEL", "trace"), ("LOG_USER_ID", "none")),
        *(("JWT_SECRET", "x" * 31), ("REQUEST_BUDGET_S", "0"), ("AI_TOTAL_S", "-1")),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: str) -> None:
    told = refused({PREFIX + name: value})
    assert told.startswith(f"{PREFIX}{name}: ")


def test_a_secret_that_is_refused_is_not_repeated() -> None:
    assert "too-short-to-be-good" not in refused({"CADENZA_JWT_SECRET": "too-short-to-be-good"})


def test_an_empty_variable_is_an_unset_one() -> None:
    assert read_settings({"CADENZA_DATABASE_URL": "", "CADENZA_PORT": ""}) == read_settings({})


@pytest.mark.parametrize("word", ["false", "0", "off", "no", "FALSE", "Off", "nO"])
def test_a_word_for_off_kills_its_flag(word: str) -> None:
    assert read_settings({"CALENDAR_SERVICE_ENABLED": word}).hard_kills == {"calendar"}
    assert read_settings({"PUBLISH_SERVICE_ENABLED": word}).hard_kills == {"publish"}


@pytest.mark.parametrize("word", ["true", "1", "on", "yes", "TRUE", "Yes"])
def test_a_word_for_on_leaves_the_decision_to_the_database(word: str) -> None:
    settings = read_settings({"CALENDAR_SERVICE_ENABLED": word})
    assert settings.hard_kills == frozenset()
    assert settings.calendar_service_enabled is True


@pytest.mark.parametrize("word", ["", "perhaps", "2", " false", "disabled", "none"])
def test_any_other_word_is_refused(word: str) -> None:
    assert "neither on nor off" in refused({"PUBLISH_SERVICE_ENABLED": word})


@pytest.mark.parametrize(
    ("given", "present"),
    [
        ({"CADENZA_AI_BASE_URL": "http://ai.example/v1", "CADENZA_AI_MODEL": "m"}, ["ai"]),
        ({"CADENZA_AI_BASE_URL": "http://ai.example/v1"}, []),
        ({"CADENZA_AI_MODEL": "m"}, []),
    ],
)
def test_the_ai_is_there_when_it_can_be_asked(given: dict[str, str], present: list[str]) -> None:
    assert sorted(read_settings(given).present) == present


def test_secrets_do_not_show() -> None:
    settings = read_settings(PRODUCTION | {"CADENZA_AI_API_KEY": "key-of-tests"})
    told = repr(settings) + str(settings) + settings.model_dump_json()
    assert PASSWORD not in told
    assert PRODUCTION["CADENZA_JWT_SECRET"] not in told
    assert "key-of-tests" not in told


def test_settings_do_not_change_afterwards() -> None:
    with pytest.raises(ValidationError):
        read_settings({}).port = 1  # pyright: ignore[reportAttributeAccessIssue]  # the point


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []

"""The pages made from the code leave nothing out."""

from cadenza.cli.docs import PAGES
from cadenza.errors import Reason
from cadenza.events import ANY_LINE, EVENTS, NOTES, REQUIRED
from cadenza.settings import PREFIX, Settings
from cadenza.web.middleware import QUIET


def test_the_page_of_log_fields_knows_every_key_event_status_and_reason() -> None:
    page = PAGES["log-fields.md"]()
    words = {*REQUIRED, *ANY_LINE, *NOTES, *Reason, *QUIET}
    for event in EVENTS:
        words |= {event.name, *event.extra, *event.statuses}
    assert [word for word in words if f"`{word}`" not in page] == []


def test_the_page_of_settings_knows_every_setting_by_the_name_people_write() -> None:
    page = PAGES["settings.md"]()
    names = [
        name.upper() if name.endswith("_service_enabled") else PREFIX + name.upper()
        for name in Settings.model_fields
    ]
    assert [name for name in names if f"| `{name}` |" not in page] == []

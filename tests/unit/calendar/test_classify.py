import pytest

from cadenza.calendar.generator import Ended, RunStatus, classify
from cadenza.errors import Reason
from cadenza.events import Verdict

COMPLETED = Ended(status=RunStatus.COMPLETED)
LENGTH = Ended(status=RunStatus.PARTIAL, reason=Reason.MAX_TOKENS)
INVALID = (RunStatus.FAILED, Reason.PROVIDER_INVALID_OUTPUT, Verdict.BAD)


def test_a_completed_run_with_an_entry_is_good_however_few_it_has() -> None:
    judged = classify(COMPLETED, entries=1, rejected=0, expected=30)
    assert judged == (RunStatus.COMPLETED, None, Verdict.GOOD)


def test_a_completed_run_without_entries_failed() -> None:
    assert classify(COMPLETED, entries=0, rejected=0, expected=30) == INVALID


@pytest.mark.parametrize(("entries", "rejected"), [(4, 1), (8, 2), (80, 20), (200, 0)])
def test_a_fifth_rejected_is_still_completed(entries: int, rejected: int) -> None:
    judged = classify(COMPLETED, entries=entries, rejected=rejected, expected=30)
    assert judged == (RunStatus.COMPLETED, None, Verdict.GOOD)


@pytest.mark.parametrize(("entries", "rejected"), [(3, 1), (79, 20), (1, 1), (0, 5)])
def test_more_than_a_fifth_rejected_is_invalid_output(entries: int, rejected: int) -> None:
    assert classify(COMPLETED, entries=entries, rejected=rejected, expected=30) == INVALID


@pytest.mark.parametrize(
    ("entries", "expected", "verdict"),
    [
        (24, 30, Verdict.GOOD),
        (23, 30, Verdict.BAD),
        (4, 5, Verdict.GOOD),
        (3, 5, Verdict.BAD),
        (0, 5, Verdict.BAD),
    ],
)
def test_a_partial_run_is_good_from_four_fifths(
    entries: int, expected: int, verdict: Verdict
) -> None:
    judged = classify(LENGTH, entries=entries, rejected=0, expected=expected)
    assert judged == (RunStatus.PARTIAL, Reason.MAX_TOKENS, verdict)


@pytest.mark.parametrize(
    ("status", "reason", "verdict"),
    [
        (RunStatus.TIMEOUT, Reason.TIMEOUT_BETWEEN, Verdict.BAD),
        (RunStatus.FAILED, Reason.PROVIDER_UNREACHABLE, Verdict.BAD),
        (RunStatus.FAILED, Reason.DATABASE_UNAVAILABLE, Verdict.BAD),
        (RunStatus.INTERRUPTED, Reason.PROCESS_LOST, Verdict.BAD),
        (RunStatus.INTERRUPTED, Reason.SHUTDOWN, Verdict.IGNORED),
        (RunStatus.CANCELLED, Reason.BY_USER, Verdict.IGNORED),
        (RunStatus.CANCELLED, Reason.BY_OPERATOR, Verdict.IGNORED),
    ],
)
def test_every_other_end_keeps_its_name_however_much_was_kept(
    status: RunStatus, reason: Reason, verdict: Verdict
) -> None:
    judged = classify(Ended(status=status, reason=reason), entries=30, rejected=9, expected=30)
    assert judged == (status, reason, verdict)

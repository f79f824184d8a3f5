"""The broken builds, as data: what is broken, how, and which test must notice.

`old` occurs exactly once in its file. When it no longer does, the code has moved on: find where
the promise is kept now, and break it there.
"""

from dataclasses import dataclass

RUNS = "tests/integration/calendar/test_runs.py::"
RLS = "tests/integration/db/test_rls.py::"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One broken build: `old` becomes `new` in `path` (below `src/cadenza`)."""

    name: str
    promise: str
    path: str
    old: str
    new: str
    caught_by: str
    is_quick: bool = False


MUTANTS = [
    Mutant(
        name="shown-before-stored",
        promise="P1",
        path="calendar/produce.py",
        old="""        if not await self._parts.committer.store(item):
            return False
        live.entries = seq
        self._parts.events.append(live.run.id, frame)
""",
        new="""        self._parts.events.append(live.run.id, frame)
        if not await self._parts.committer.store(item):
            return False
        live.entries = seq
""",
        caught_by=RUNS + "test_every_entry_is_in_the_database_before_anyone_is_shown_it",
        is_quick=True,
    ),
    Mutant(
        name="group-commit-without-the-lease",
        promise="P3",
        path="calendar/store/commit.py",
        old="    ON r.id = held.id AND r.lease_token = held.token\n",
        new="    ON r.id = held.id\n",
        caught_by=RUNS + "test_a_producer_that_lost_its_lease_writes_nothing_more",
        is_quick=True,
    ),
    Mutant(
        name="one-table-without-row-security",
        promise="P12",
        path="db/migrations/versions/0003.py",
        old="ALTER TABLE cadenza.calendar_entry ENABLE ROW LEVEL SECURITY;\n",
        new="",
        caught_by=RLS + "test_every_table_is_under_row_security_that_binds_its_owner_too",
        is_quick=True,
    ),
    Mutant(
        name="outcome-emitted-twice",
        promise="P18",
        path="calendar/ending.py",
        old="    if outcome is not None:\n        record(outcome)\n",
        new="    if outcome is not None:\n        record(outcome)\n        record(outcome)\n",
        caught_by=RUNS + "test_a_run_ends_with_one_terminal_frame_one_outcome_and_one_revision",
        is_quick=True,
    ),
    Mutant(
        name="no-terminal-frame-on-a-timeout",
        promise="P1",
        path="calendar/event_log.py",
        old="            reader.finish(frame, 1)\n",
        new="""            if b'"timeout"' in frame:
                reader.finish()
            else:
                reader.finish(frame, 1)
""",
        caught_by=RUNS + "test_whatever_ends_a_run_its_stream_ends_in_one_terminal_frame",
        is_quick=True,
    ),
    Mutant(
        name="row-security-of-the-storm",
        promise="P12",
        path="db/migrations/versions/0003.py",
        old="ALTER TABLE cadenza.run_event ENABLE ROW LEVEL SECURITY;\n",
        new="",
        caught_by=RLS
        + "test_of_3000_statements_without_a_where_none_sees_or_changes_a_foreign_row",
    ),
    Mutant(
        name="policy-that-lets-users-read-on",
        promise="P12",
        path="db/migrations/versions/0003.py",
        old="""CREATE POLICY calendar_entry_own ON cadenza.calendar_entry TO authenticated
  USING (user_id = (SELECT cadenza.uid()))""",
        new="""CREATE POLICY calendar_entry_own ON cadenza.calendar_entry TO authenticated
  USING (true)""",
        caught_by=RLS
        + "test_of_3000_statements_without_a_where_none_sees_or_changes_a_foreign_row",
    ),
    Mutant(
        name="outcome-told-by-whoever-flushes",
        promise="P18",
        path="telemetry/outcomes.py",
        old="    return await (await conn.execute(_INSERT, row)).fetchone() is not None\n",
        new="    await conn.execute(_INSERT, row)\n    return True\n",
        caught_by="tests/integration/telemetry/test_outcomes.py"
        "::test_a_unit_flushed_by_two_processes_is_one_row_and_told_once",
    ),
    Mutant(
        name="flag-version-not-compared-at-run-start",
        promise="P8",
        path="calendar/store/runs.py",
        old='    if version is None or version["version"] != new.set_version:\n',
        new="    if version is None:\n",
        caught_by=RUNS + "test_a_decision_of_an_older_flag_set_is_taken_again",
    ),
    Mutant(
        name="gate-lock-dropped",
        promise="P8",
        path="db/pool.py",
        old='_OPEN_SHARED = _OPEN + ", pg_advisory_xact_lock_shared(%(gates)s, %(gate)s)"\n',
        new="_OPEN_SHARED = _OPEN\n",
        caught_by=RUNS + "test_a_run_that_waited_at_the_gate_is_decided_again",
    ),
    Mutant(
        name="run-start-beside-the-gate",
        promise="P8",
        path="calendar/run.py",
        old=', gate=gate_of("calendar"))\n',
        new=")\n",
        caught_by=RUNS + "test_a_run_that_waited_at_the_gate_is_decided_again",
    ),
    Mutant(
        name="silent-client-keeps-its-locks",
        promise="P8",
        path="db/pool.py",
        old="""    " set_config('idle_in_transaction_session_timeout', %(timeout)s, true)\"""",
        new="""    " set_config('idle_in_transaction_session_timeout', '0', true)\"""",
        caught_by="tests/integration/db/test_proxy.py"
        "::test_a_client_that_fell_silent_in_a_transaction_holds_no_gate_against_a_flip",
    ),
    Mutant(
        name="late-query-is-awaited",
        promise="P7",
        path="db/budget.py",
        old="    done, _ = await asyncio.wait({task}, timeout=max(0.0, budget_s))\n",
        new="    done, _ = await asyncio.wait({task}, timeout=max(0.0, budget_s))\n"
        "        if not done:\n"
        "            task.cancel()\n"
        "            await asyncio.wait({task})\n",
        caught_by="tests/integration/db/test_proxy.py"
        "::test_a_fault_is_told_as_unavailable_and_heals_by_itself[blackhole]",
    ),
    Mutant(
        name="idempotent-answer-without-the-row",
        promise="P5",
        path="db/idempotency.py",
        old="    return None if claimed else await _kept(conn, key)\n",
        new="""    if claimed:
        await conn.execute("SELECT set_config('role', 'cadenza_ops', true)")
        await conn.execute(
            "DELETE FROM cadenza.idempotency_key WHERE user_id = %(user_id)s AND key = %(key)s",
            _names(key),
        )
        await conn.execute("SELECT set_config('role', 'authenticated', true)")
    return None if claimed else await _kept(conn, key)
""",
        caught_by="tests/integration/db/test_idempotency.py"
        "::test_a_key_that_comes_with_another_body_is_refused",
    ),
    Mutant(
        name="csv-not-defused",
        promise="export",
        path="calendar/export.py",
        old="""    return f"'{text}" if text.startswith(FORMULA_STARTS) else text\n""",
        new="    return text\n",
        caught_by="tests/unit/calendar/test_export.py::test_no_cell_begins_as_a_formula_does",
    ),
    Mutant(
        name="role-of-a-token-not-checked",
        promise="P15",
        path="web/auth.py",
        old="        if role != _ROLE:\n",
        new="        if role is None:\n",
        caught_by="tests/unit/web/test_auth.py::test_a_genuine_token_of_another_role_is_forbidden",
    ),
    Mutant(
        name="any-key-is-logged",
        promise="P17",
        path="telemetry/log.py",
        old="            if key not in allowed:\n",
        new="            if key not in allowed and not fields:\n",
        caught_by="tests/unit/telemetry/test_log.py"
        "::test_a_key_outside_the_contract_is_dropped_and_counted",
    ),
    Mutant(
        name="silence-for-an-unknown-id",
        promise="P1",
        path="web/runs.py",
        old='    if is_over and place == EventId(row["epoch"], seq):\n',
        new="    if (seen and not is_known) or (is_over and place.seq == seq):\n",
        caught_by="tests/acceptance/test_cuts.py"
        "::test_an_id_that_the_run_never_had_resets_the_client_and_shows_all",
    ),
    Mutant(
        name="cancel-deletes-entries",
        promise="P1",
        path="calendar/store/runs.py",
        old="""UPDATE cadenza.run SET cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = %s RETURNING status
""",
        new="""WITH it AS (
  UPDATE cadenza.run SET cancel_requested_at = now() WHERE id = %s RETURNING id, status
), gone AS (DELETE FROM cadenza.calendar_entry e USING it WHERE e.run_id = it.id)
SELECT status FROM it
""",
        caught_by="tests/acceptance/test_runs.py::test_a_cancelled_run_keeps_what_it_made",
    ),
    Mutant(
        name="last-boot-not-reaped-at-once",
        promise="P1",
        path="calendar/store/runs.py",
        old="  AND (lease_until < clock_timestamp()"
        " OR (owner_name = %(name)s AND owner_boot <> %(boot)s))\n",
        new="  AND lease_until < clock_timestamp()\n",
        caught_by=RUNS + "test_a_new_boot_ends_its_own_last_boots_runs_at_once",
    ),
    Mutant(
        name="resume-repeats-the-last-frame",
        promise="P1",
        path="calendar/event_log.py",
        old="        backlog = live.frames[after + 1 :]\n",
        new="        backlog = live.frames[max(after, 0) :]\n",
        caught_by="tests/acceptance/test_cuts.py"
        "::test_20_random_cuts_lose_nothing_and_show_nothing_twice",
    ),
]

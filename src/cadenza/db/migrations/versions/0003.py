"""Calendars: entries, revisions, runs and their event logs."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the tables of the calendar flow."""
    op.execute("""
CREATE TABLE cadenza.calendar (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  revision bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (id, user_id)
);
CREATE INDEX calendar_by_user ON cadenza.calendar (user_id, id);

CREATE TABLE cadenza.run (
  id uuid PRIMARY KEY,
  calendar_id uuid NOT NULL,
  user_id uuid NOT NULL,
  lane text NOT NULL CHECK (lane IN ('live', 'drill')),
  status text NOT NULL DEFAULT 'running' CHECK (status IN
    ('running', 'completed', 'partial', 'timeout', 'failed', 'interrupted', 'cancelled')),
  reason text,
  request jsonb NOT NULL,
  channels text NOT NULL,
  expected integer NOT NULL,
  entries integer NOT NULL DEFAULT 0,
  rejected integer NOT NULL DEFAULT 0,
  usage jsonb,
  usage_estimated boolean NOT NULL DEFAULT false,
  needs_review boolean,
  revision bigint,
  variant text NOT NULL,
  flag_version bigint NOT NULL,
  flag_source text NOT NULL,
  request_id text NOT NULL,
  epoch integer NOT NULL DEFAULT 1,
  idempotency_key text,
  fingerprint text,
  cancel_requested_at timestamptz,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  first_entry_at timestamptz,
  finished_at timestamptz,
  lease_token uuid NOT NULL,
  lease_until timestamptz NOT NULL,
  owner_name text NOT NULL,
  owner_boot uuid NOT NULL,
  FOREIGN KEY (calendar_id, user_id) REFERENCES cadenza.calendar (id, user_id)
);
CREATE UNIQUE INDEX run_one_active_per_user ON cadenza.run (user_id) WHERE status = 'running';
CREATE UNIQUE INDEX run_by_key ON cadenza.run (user_id, idempotency_key)
  WHERE idempotency_key IS NOT NULL;
CREATE INDEX run_by_lease ON cadenza.run (lease_until) WHERE status = 'running';
CREATE INDEX run_by_user_start ON cadenza.run (user_id, lane, started_at);
CREATE INDEX run_by_calendar ON cadenza.run (calendar_id, started_at);

CREATE TABLE cadenza.run_event (
  run_id uuid NOT NULL REFERENCES cadenza.run (id),
  seq integer NOT NULL,
  user_id uuid NOT NULL,
  frame bytea NOT NULL,
  terminal boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (run_id, seq)
);
CREATE INDEX run_event_by_age ON cadenza.run_event (at);

CREATE TABLE cadenza.calendar_entry (
  id uuid PRIMARY KEY,
  calendar_id uuid NOT NULL,
  user_id uuid NOT NULL,
  run_id uuid,
  version bigint NOT NULL DEFAULT 1,
  title text NOT NULL,
  channel text NOT NULL,
  format text NOT NULL,
  copy text NOT NULL,
  script text,
  target_audience text,
  date date NOT NULL,
  time time NOT NULL,
  timezone text NOT NULL,
  hashtags jsonb NOT NULL DEFAULT '[]',
  media jsonb NOT NULL DEFAULT '[]',
  needs_review boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (calendar_id, user_id) REFERENCES cadenza.calendar (id, user_id)
);
CREATE INDEX calendar_entry_in_order
  ON cadenza.calendar_entry (calendar_id, date, time, channel, id);
CREATE INDEX calendar_entry_by_run ON cadenza.calendar_entry (run_id);
CREATE INDEX calendar_entry_by_user ON cadenza.calendar_entry (user_id);

CREATE TABLE cadenza.calendar_revision (
  calendar_id uuid NOT NULL,
  revision bigint NOT NULL,
  user_id uuid NOT NULL,
  cause text NOT NULL CHECK (cause IN ('run', 'save', 'patch', 'delete')),
  run_id uuid,
  request_id text,
  changes jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (calendar_id, revision),
  FOREIGN KEY (calendar_id, user_id) REFERENCES cadenza.calendar (id, user_id)
);
CREATE INDEX calendar_revision_by_user ON cadenza.calendar_revision (user_id);

ALTER TABLE cadenza.calendar ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.calendar FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.run ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.run FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.run_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.run_event FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.calendar_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.calendar_entry FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.calendar_revision ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.calendar_revision FORCE ROW LEVEL SECURITY;

GRANT SELECT ON cadenza.calendar, cadenza.calendar_entry, cadenza.calendar_revision,
  cadenza.run_event TO authenticated, cadenza_worker, cadenza_ops;
GRANT SELECT ON cadenza.run TO cadenza_worker, cadenza_ops;
GRANT SELECT (id, calendar_id, user_id, lane, status, reason, request, channels, expected, entries,
  rejected, usage, usage_estimated, needs_review, revision, variant, flag_version, flag_source,
  request_id, epoch, idempotency_key, fingerprint, cancel_requested_at, started_at, first_entry_at,
  finished_at) ON cadenza.run TO authenticated;
GRANT INSERT (id, user_id) ON cadenza.calendar TO authenticated;
GRANT UPDATE (revision, updated_at) ON cadenza.calendar TO authenticated, cadenza_worker;
GRANT INSERT, UPDATE, DELETE ON cadenza.calendar_entry TO authenticated;
GRANT INSERT ON cadenza.calendar_revision TO authenticated, cadenza_worker;
GRANT UPDATE (cancel_requested_at) ON cadenza.run TO authenticated;
GRANT INSERT, UPDATE ON cadenza.run TO cadenza_worker;
GRANT INSERT ON cadenza.run_event, cadenza.calendar_entry TO cadenza_worker;
GRANT UPDATE (needs_review) ON cadenza.calendar_entry TO cadenza_worker;
GRANT DELETE ON cadenza.run_event TO cadenza_ops;

CREATE POLICY calendar_own ON cadenza.calendar TO authenticated
  USING (user_id = (SELECT cadenza.uid())) WITH CHECK (user_id = (SELECT cadenza.uid()));
CREATE POLICY calendar_worker ON cadenza.calendar TO cadenza_worker USING (true) WITH CHECK (true);
CREATE POLICY calendar_ops ON cadenza.calendar FOR SELECT TO cadenza_ops USING (true);
CREATE POLICY run_own ON cadenza.run TO authenticated
  USING (user_id = (SELECT cadenza.uid())) WITH CHECK (user_id = (SELECT cadenza.uid()));
CREATE POLICY run_worker ON cadenza.run TO cadenza_worker USING (true) WITH CHECK (true);
CREATE POLICY run_ops ON cadenza.run FOR SELECT TO cadenza_ops USING (true);
CREATE POLICY run_event_own ON cadenza.run_event FOR SELECT TO authenticated
  USING (user_id = (SELECT cadenza.uid()));
CREATE POLICY run_event_worker ON cadenza.run_event TO cadenza_worker
  USING (true) WITH CHECK (true);
CREATE POLICY run_event_ops ON cadenza.run_event TO cadenza_ops USING (true);
CREATE POLICY calendar_entry_own ON cadenza.calendar_entry TO authenticated
  USING (user_id = (SELECT cadenza.uid())) WITH CHECK (user_id = (SELECT cadenza.uid()));
CREATE POLICY calendar_entry_worker ON cadenza.calendar_entry TO cadenza_worker
  USING (true) WITH CHECK (true);
CREATE POLICY calendar_entry_ops ON cadenza.calendar_entry FOR SELECT TO cadenza_ops USING (true);
CREATE POLICY calendar_revision_own ON cadenza.calendar_revision TO authenticated
  USING (user_id = (SELECT cadenza.uid())) WITH CHECK (user_id = (SELECT cadenza.uid()));
CREATE POLICY calendar_revision_worker ON cadenza.calendar_revision TO cadenza_worker
  USING (true) WITH CHECK (true);
CREATE POLICY calendar_revision_ops ON cadenza.calendar_revision FOR SELECT TO cadenza_ops
  USING (true);
""")

"""Identity, instances, outcomes, idempotency keys."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Add what every later table leans on."""
    op.execute("""
GRANT USAGE ON SCHEMA cadenza TO authenticated, cadenza_worker, cadenza_ops;
GRANT SELECT ON cadenza.schema_version TO authenticated, cadenza_worker, cadenza_ops;

CREATE FUNCTION cadenza.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
  SELECT nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid
$$;

CREATE TABLE cadenza.instance (
  boot uuid PRIMARY KEY,
  name text NOT NULL,
  version text NOT NULL,
  flags_version bigint NOT NULL DEFAULT 0,
  advertise_url text,
  started_at timestamptz NOT NULL DEFAULT now(),
  seen_at timestamptz NOT NULL DEFAULT now(),
  stopped_at timestamptz
);
CREATE INDEX instance_by_name ON cadenza.instance (name, started_at);

CREATE TABLE cadenza.outcome (
  id uuid PRIMARY KEY,
  lane text NOT NULL CHECK (lane IN ('live', 'drill')),
  signal text NOT NULL,
  at timestamptz NOT NULL,
  verdict text NOT NULL CHECK (verdict IN ('good', 'bad', 'ignored')),
  reason text,
  channel text,
  variant text,
  flag_version bigint,
  version text NOT NULL,
  request_id text,
  run_id uuid,
  calendar_id uuid,
  user_hash text
);
CREATE INDEX outcome_by_window ON cadenza.outcome (lane, signal, at);

CREATE TABLE cadenza.idempotency_key (
  user_id uuid NOT NULL,
  route text NOT NULL,
  key text NOT NULL,
  fingerprint text NOT NULL,
  status integer,
  body bytea,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (user_id, route, key)
);
CREATE INDEX idempotency_key_by_age ON cadenza.idempotency_key (created_at);

ALTER TABLE cadenza.instance ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.instance FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.outcome ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.outcome FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.idempotency_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.idempotency_key FORCE ROW LEVEL SECURITY;

GRANT SELECT, INSERT ON cadenza.instance TO cadenza_worker;
GRANT UPDATE (flags_version, seen_at, stopped_at) ON cadenza.instance TO cadenza_worker;
GRANT SELECT ON cadenza.instance TO cadenza_ops;
GRANT SELECT, INSERT ON cadenza.outcome TO cadenza_worker;
GRANT SELECT, DELETE ON cadenza.outcome TO cadenza_ops;
GRANT SELECT, INSERT ON cadenza.idempotency_key TO authenticated;
GRANT UPDATE (status, body) ON cadenza.idempotency_key TO authenticated;
GRANT SELECT, DELETE ON cadenza.idempotency_key TO cadenza_ops;

CREATE POLICY instance_worker ON cadenza.instance TO cadenza_worker USING (true) WITH CHECK (true);
CREATE POLICY instance_ops ON cadenza.instance FOR SELECT TO cadenza_ops USING (true);
CREATE POLICY outcome_worker ON cadenza.outcome TO cadenza_worker USING (true) WITH CHECK (true);
CREATE POLICY outcome_ops ON cadenza.outcome TO cadenza_ops USING (true);
CREATE POLICY idempotency_key_own ON cadenza.idempotency_key TO authenticated
  USING (user_id = (SELECT cadenza.uid())) WITH CHECK (user_id = (SELECT cadenza.uid()));
CREATE POLICY idempotency_key_ops ON cadenza.idempotency_key TO cadenza_ops USING (true);
""")

"""Publishing: accounts, intents, and every move of an intent."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the tables of the publish flow, as far as dry runs go; nothing is sent yet."""
    op.execute("""
CREATE TABLE cadenza.account (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  channel text NOT NULL,
  handle text NOT NULL CHECK (handle <> ''),
  time_zone text NOT NULL,
  state text NOT NULL CHECK (state IN
    ('connected', 'missing', 'expired', 'revoked', 'scope_missing')),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (user_id, channel, handle),
  UNIQUE (id, user_id)
);

CREATE TABLE cadenza.publish_intent (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  calendar_id uuid NOT NULL,
  entry_id uuid NOT NULL,
  entry_version bigint NOT NULL,
  run_id uuid,
  request_id text NOT NULL,
  channel text NOT NULL,
  account_id uuid NOT NULL,
  lane text NOT NULL CHECK (lane IN ('live', 'drill')),
  mode text NOT NULL CHECK (mode IN ('live', 'dry_run')),
  state text NOT NULL CHECK (state IN
    ('dry_run', 'scheduled', 'held', 'publishing', 'retry_wait', 'published', 'unknown',
     'needs_attention', 'missed', 'cancelled')),
  cause text,
  scheduled_at timestamptz NOT NULL,
  not_after timestamptz NOT NULL,
  wake_at timestamptz,
  fence bigint NOT NULL DEFAULT 0,
  deliveries integer NOT NULL DEFAULT 0,
  flag_variant text NOT NULL,
  flag_version bigint NOT NULL,
  flag_source text NOT NULL,
  request jsonb NOT NULL CHECK (jsonb_typeof(request) = 'object'),
  request_sha256 text NOT NULL CHECK (request_sha256 ~ '^[0-9a-f]{64}$'),
  frozen_at timestamptz NOT NULL,
  remote jsonb,
  replaces uuid REFERENCES cadenza.publish_intent (id),
  replaced_by uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((mode = 'dry_run') = (state = 'dry_run')),
  CHECK (not_after >= scheduled_at),
  FOREIGN KEY (calendar_id, user_id) REFERENCES cadenza.calendar (id, user_id),
  FOREIGN KEY (account_id, user_id) REFERENCES cadenza.account (id, user_id)
);
CREATE UNIQUE INDEX publish_intent_one_live ON cadenza.publish_intent (entry_id, account_id)
  WHERE mode = 'live' AND replaced_by IS NULL AND state NOT IN ('cancelled', 'missed');
CREATE INDEX publish_intent_by_user ON cadenza.publish_intent (user_id, id);
CREATE INDEX publish_intent_by_calendar ON cadenza.publish_intent (calendar_id, id);
CREATE INDEX publish_intent_by_account ON cadenza.publish_intent (account_id);
CREATE INDEX publish_intent_by_replaced ON cadenza.publish_intent (replaces)
  WHERE replaces IS NOT NULL;
CREATE INDEX publish_intent_due ON cadenza.publish_intent (wake_at) WHERE wake_at IS NOT NULL;

CREATE TABLE cadenza.intent_transition (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  intent_id uuid NOT NULL REFERENCES cadenza.publish_intent (id),
  from_state text,
  to_state text NOT NULL,
  cause text,
  actor text NOT NULL CHECK (actor <> ''),
  request_id text,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX intent_transition_by_intent ON cadenza.intent_transition (intent_id, seq);
CREATE TRIGGER intent_transition_keeps_rows BEFORE UPDATE ON cadenza.intent_transition
  FOR EACH STATEMENT EXECUTE FUNCTION cadenza.refuse_change();
CREATE TRIGGER intent_transition_keeps_all BEFORE TRUNCATE ON cadenza.intent_transition
  FOR EACH STATEMENT EXECUTE FUNCTION cadenza.refuse_change();

ALTER TABLE cadenza.account ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.account FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.publish_intent ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.publish_intent FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.intent_transition ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.intent_transition FORCE ROW LEVEL SECURITY;

GRANT SELECT ON cadenza.account, cadenza.publish_intent
  TO authenticated, cadenza_worker, cadenza_ops;
GRANT SELECT ON cadenza.intent_transition TO cadenza_worker, cadenza_ops;
GRANT INSERT ON cadenza.account, cadenza.publish_intent, cadenza.intent_transition
  TO cadenza_worker;

CREATE POLICY account_own ON cadenza.account FOR SELECT TO authenticated
  USING (user_id = (SELECT cadenza.uid()));
CREATE POLICY account_worker ON cadenza.account TO cadenza_worker USING (true) WITH CHECK (true);
CREATE POLICY account_ops ON cadenza.account FOR SELECT TO cadenza_ops USING (true);
CREATE POLICY publish_intent_own ON cadenza.publish_intent FOR SELECT TO authenticated
  USING (user_id = (SELECT cadenza.uid()));
CREATE POLICY publish_intent_worker ON cadenza.publish_intent TO cadenza_worker
  USING (true) WITH CHECK (true);
CREATE POLICY publish_intent_ops ON cadenza.publish_intent FOR SELECT TO cadenza_ops USING (true);
CREATE POLICY intent_transition_worker ON cadenza.intent_transition TO cadenza_worker
  USING (true) WITH CHECK (true);
CREATE POLICY intent_transition_ops ON cadenza.intent_transition FOR SELECT TO cadenza_ops
  USING (true);
""")

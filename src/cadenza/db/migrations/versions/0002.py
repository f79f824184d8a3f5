"""Flags: policies, the version of the whole set, the audit that nobody can change, drills."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the tables of the flag flow; the first values come by `flags.store`, not from here."""
    op.execute("""
CREATE TABLE cadenza.flag_set (
  id integer PRIMARY KEY CHECK (id = 1),
  version bigint NOT NULL CHECK (version >= 0),
  epoch uuid NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cadenza.flag_policy (
  key text PRIMARY KEY,
  kill boolean NOT NULL,
  stopped boolean NOT NULL,
  deny jsonb NOT NULL CHECK (jsonb_typeof(deny) = 'array'),
  allow jsonb NOT NULL CHECK (jsonb_typeof(allow) = 'array'),
  percent_bp integer NOT NULL CHECK (percent_bp BETWEEN 0 AND 10000),
  salt text NOT NULL CHECK (salt ~ '^[a-z0-9-]{1,64}$'),
  variants jsonb NOT NULL CHECK (jsonb_typeof(variants) = 'object'),
  requires jsonb NOT NULL CHECK (jsonb_typeof(requires) = 'object'),
  owner text NOT NULL,
  expires_at timestamptz,
  version bigint NOT NULL
);

CREATE TABLE cadenza.flag_audit (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  set_version bigint NOT NULL,
  key text NOT NULL,
  actor text NOT NULL CHECK (actor <> ''),
  reason text NOT NULL CHECK (length(reason) >= 3),
  cause jsonb NOT NULL CHECK (jsonb_typeof(cause) = 'object'),
  before jsonb,
  after jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX flag_audit_by_key ON cadenza.flag_audit (key, seq);

CREATE TABLE cadenza.drill_context (
  id text PRIMARY KEY,
  user_id uuid NOT NULL,
  flags jsonb NOT NULL CHECK (jsonb_typeof(flags) = 'object'),
  expires_at timestamptz NOT NULL,
  reason text NOT NULL CHECK (length(reason) >= 3),
  actor text NOT NULL CHECK (actor <> ''),
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK (expires_at <= created_at + interval '600 seconds')
);
CREATE INDEX drill_context_by_expiry ON cadenza.drill_context (expires_at);

CREATE FUNCTION cadenza.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER flag_audit_keeps_rows BEFORE UPDATE OR DELETE ON cadenza.flag_audit
  FOR EACH STATEMENT EXECUTE FUNCTION cadenza.refuse_change();
CREATE TRIGGER flag_audit_keeps_all BEFORE TRUNCATE ON cadenza.flag_audit
  FOR EACH STATEMENT EXECUTE FUNCTION cadenza.refuse_change();
ALTER TABLE cadenza.flag_audit ENABLE ALWAYS TRIGGER flag_audit_keeps_rows;
ALTER TABLE cadenza.flag_audit ENABLE ALWAYS TRIGGER flag_audit_keeps_all;

ALTER TABLE cadenza.flag_set ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.flag_set FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.flag_policy ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.flag_policy FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.flag_audit ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.flag_audit FORCE ROW LEVEL SECURITY;
ALTER TABLE cadenza.drill_context ENABLE ROW LEVEL SECURITY;
ALTER TABLE cadenza.drill_context FORCE ROW LEVEL SECURITY;

GRANT SELECT (version) ON cadenza.flag_set TO authenticated;
GRANT SELECT ON cadenza.flag_set, cadenza.flag_policy, cadenza.drill_context TO cadenza_worker;
GRANT SELECT, INSERT, UPDATE ON cadenza.flag_set, cadenza.flag_policy TO cadenza_ops;
GRANT SELECT, INSERT ON cadenza.flag_audit TO cadenza_ops;
GRANT SELECT, INSERT, DELETE ON cadenza.drill_context TO cadenza_ops;

CREATE POLICY flag_set_version ON cadenza.flag_set FOR SELECT TO authenticated USING (true);
CREATE POLICY flag_set_worker ON cadenza.flag_set FOR SELECT TO cadenza_worker USING (true);
CREATE POLICY flag_set_ops ON cadenza.flag_set TO cadenza_ops USING (true) WITH CHECK (true);
CREATE POLICY flag_policy_worker ON cadenza.flag_policy FOR SELECT TO cadenza_worker USING (true);
CREATE POLICY flag_policy_ops ON cadenza.flag_policy TO cadenza_ops USING (true) WITH CHECK (true);
CREATE POLICY flag_audit_ops_reads ON cadenza.flag_audit FOR SELECT TO cadenza_ops USING (true);
CREATE POLICY flag_audit_ops_adds ON cadenza.flag_audit FOR INSERT TO cadenza_ops
  WITH CHECK (true);
CREATE POLICY drill_context_worker ON cadenza.drill_context FOR SELECT TO cadenza_worker
  USING (true);
CREATE POLICY drill_context_ops ON cadenza.drill_context TO cadenza_ops
  USING (true) WITH CHECK (true);
""")

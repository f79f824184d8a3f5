-- Roles and the schema. Run before every migration, as the migrating login; changes nothing twice.
-- `authenticated` exists already on Supabase. `cadenza_app` is what the service logs in as: it
-- owns nothing, inherits nothing, and becomes one of three roles inside each transaction.
DO $$
DECLARE
  wanted text;
BEGIN
  PERFORM pg_advisory_xact_lock(51934, 0);
  FOREACH wanted IN ARRAY ARRAY['cadenza_owner', 'authenticated', 'cadenza_worker', 'cadenza_ops']
  LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'cadenza_app') THEN
    CREATE ROLE cadenza_app NOLOGIN NOINHERIT;
    GRANT authenticated, cadenza_worker, cadenza_ops TO cadenza_app;
  END IF;
  -- From Postgres 16 a login that is no superuser (Supabase's) is a member of what it created
  -- without being able to become it. Before 16 there is no such difference, nor the word SET.
  IF NOT pg_has_role(
    current_user, 'cadenza_owner',
    CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
  ) THEN
    EXECUTE format('GRANT cadenza_owner TO %I', current_user);
  END IF;
  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'cadenza') THEN
    CREATE SCHEMA cadenza AUTHORIZATION cadenza_owner;
  END IF;
END
$$;

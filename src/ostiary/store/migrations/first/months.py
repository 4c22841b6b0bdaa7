"""Usage by month on PostgreSQL: the partitions, and the two functions that make and drop them. It must not let a row be
lost: what has no month of its own is kept in the default partition, and moves when its month is made.

Partitions have row security without a policy and no privileges: rows are reached through `usage` alone. The functions
run as the owner of the tables, who is under row security too and therefore lifts it from the default partition while
rows move; the lock that this takes is needed for the new partition anyway.
"""

from __future__ import annotations

from alembic import op

_DEFAULT = (
    "CREATE TABLE usage_default PARTITION OF usage DEFAULT",
    "ALTER TABLE usage_default ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE usage_default FORCE ROW LEVEL SECURITY",
)

_ENSURE = """
CREATE FUNCTION ostiary_ensure_partition(first_ms bigint, last_ms bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
  month timestamp := date_trunc('month', to_timestamp(first_ms / 1000.0) AT TIME ZONE 'UTC');
  name text;
  low bigint;
  high bigint;
  made integer := 0;
BEGIN
  IF last_ms < first_ms OR last_ms - first_ms > 3200000000000 THEN
    RAISE EXCEPTION 'no range of at most a hundred years';
  END IF;
  PERFORM pg_advisory_xact_lock(7381240551);
  WHILE month <= to_timestamp(last_ms / 1000.0) AT TIME ZONE 'UTC' LOOP
    name := 'usage_p' || to_char(month, 'YYYYMM');
    low := extract(epoch FROM month)::bigint * 1000;
    month := month + interval '1 month';
    high := extract(epoch FROM month)::bigint * 1000;
    CONTINUE WHEN to_regclass(format('{schema}.%I', name)) IS NOT NULL;
    ALTER TABLE {schema}.usage_default NO FORCE ROW LEVEL SECURITY;
    EXECUTE format('CREATE TABLE {schema}.%I (LIKE {schema}.usage INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    EXECUTE format('WITH moved AS (DELETE FROM {schema}.usage_default WHERE started >= %s AND started < %s RETURNING *)'
                   ' INSERT INTO {schema}.%I SELECT * FROM moved', low, high, name);
    EXECUTE format('ALTER TABLE {schema}.usage ATTACH PARTITION {schema}.%I FOR VALUES FROM (%s) TO (%s)',
                   name, low, high);
    EXECUTE format('ALTER TABLE {schema}.%I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE {schema}.%I FORCE ROW LEVEL SECURITY', name);
    ALTER TABLE {schema}.usage_default FORCE ROW LEVEL SECURITY;
    made := made + 1;
  END LOOP;
  RETURN made;
END $body$
"""

_DROP = """
CREATE FUNCTION ostiary_drop_partitions(before_ms bigint) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $body$
DECLARE
  name text;
  dropped integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(7381240551);
  FOR name IN
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = '{schema}.usage'::regclass AND relname ~ '^usage_p[0-9]{{6}}$'
      AND extract(epoch FROM to_date(substr(relname, 8), 'YYYYMM') + interval '1 month')::bigint * 1000 <= before_ms
    ORDER BY relname
  LOOP
    EXECUTE format('DROP TABLE {schema}.%I', name);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END $body$
"""

_FENCE = (
    "ALTER FUNCTION {name} SET search_path = pg_catalog, pg_temp",
    "ALTER FUNCTION {name} SET lock_timeout = '2s'",  # whoever waits for a lock holds up all who come after
    "REVOKE ALL ON FUNCTION {name} FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION {name} TO ostiary_instance",
)


def divide() -> None:
    """The default partition, and the functions."""
    for statement in _DEFAULT:
        op.execute(statement)
    bind = op.get_bind()
    schema = bind.dialect.identifier_preparer.quote_schema(
        str(bind.exec_driver_sql("SELECT current_schema()").scalar())
    )
    for body in (_ENSURE, _DROP):
        op.execute(body.format(schema=schema))
    for name in ("ostiary_ensure_partition(bigint, bigint)", "ostiary_drop_partitions(bigint)"):
        for statement in _FENCE:
            op.execute(statement.format(name=name))

"""Who may touch which row on PostgreSQL: roles, privileges and row policies. It must not grant anything to PUBLIC.

Two roles work with the tables, neither owns them, and neither can log in: the program's login becomes a member and
changes into one of them at once.

`ostiary_app` acts for one organisation, named in the setting `ostiary.org` of the transaction; without it, it sees and
writes nothing. `ostiary_instance` does what concerns all of them. Row security is enabled and forced, so that the owner
of the tables is under it as well. Roles belong to the whole server and may be there already: made by another database's
first start, by one that runs at the same time, or by an operator who does not let this program make roles.
"""

from __future__ import annotations

from alembic import op

ROLES = ("ostiary_app", "ostiary_instance")

# What ostiary_app and ostiary_instance may do: S(elect), I(nsert), U(pdate), D(elete).
ORGANISATION = {  # a row belongs to the organisation in `org_id`
    "memberships": ("SIUD", "SIUD"),
    "teams": ("SIUD", "SIUD"),
    "team_members": ("SIUD", "SIUD"),
    "invitations": ("SIUD", "SIUD"),
    "virtual_keys": ("SIUD", "SIUD"),
    "key_digests": ("SIUD", "SIUD"),
    "key_spend": ("SIUD", "SIUD"),
    "budgets": ("SIUD", "SIUD"),
    "credentials": ("SIUD", "SIUD"),
    "models": ("SIUD", "SIUD"),
    "settings": ("SIUD", "SIUD"),
    "names": ("SIUD", "SIUD"),
    "end_users": ("SIUD", "SIUD"),
    "tags": ("SIUD", "SIUD"),
    "usage": ("SI", "SID"),  # what was used is never rewritten
    "usage_daily": ("SIU", "SIUD"),
    "usage_totals": ("SIU", "SIUD"),
    "usage_labels": ("SIU", "SIUD"),
    "responses": ("SID", "SIUD"),  # nor what was said; the instance seals it again when keys are replaced
    "audit_heads": ("SIU", "SIU"),
    "audit_events": ("SI", "SI"),  # nor is what happened
    "audit_checkpoints": ("SI", "SI"),
}
_OWN = "(SELECT nullif(current_setting('ostiary.org', true), ''))"  # asked once per statement, not once per row
# Rows without an `org_id`, or not only of one: what an organisation sees of them, and who may do what.
SPECIAL = {
    "organizations": (f"id = {_OWN}", "SU", "SIUD"),
    "users": ("EXISTS (SELECT 1 FROM memberships WHERE memberships.user_id = users.id)", "S", "SIUD"),
    "sessions": (None, "", "SIUD"),
}
# No organisation is concerned: whose database it is and of which version.
GLOBAL = {"stamp": ("", "SI"), "schema_versions": ("", "S")}

# Columns that the instance writes anew when keys are replaced, in rows that otherwise stay as they are.
RESEALED = {"audit_events": "payload", "stamp": "row_mac"}

_VERBS = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}

_MAKE_ROLE = """
DO $$
DECLARE attempts integer := 0;
BEGIN
  LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION;
      END IF;
      IF NOT EXISTS (SELECT FROM pg_auth_members JOIN pg_roles granted ON granted.oid = roleid
                     JOIN pg_roles own ON own.oid = member
                     WHERE granted.rolname = '{role}' AND own.rolname = current_user {able}) THEN
        GRANT {role} TO CURRENT_USER;
      END IF;
      EXIT;
    EXCEPTION WHEN duplicate_object OR unique_violation OR internal_error THEN  -- another database does the same now
      attempts := attempts + 1;
      IF attempts = 100 THEN RAISE; END IF;
      PERFORM pg_sleep(0.05);
    END;
  END LOOP;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}' AND (rolsuper OR rolbypassrls OR rolcanlogin)) THEN
    RAISE EXCEPTION 'the role {role} can do too much' USING ERRCODE = 'invalid_role_specification';
  END IF;
END $$
"""
_ABLE = "AND set_option"  # PostgreSQL 16: to be a member is not enough to become the role

_CLOSE_DATABASE = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_database WHERE datname = current_database() AND pg_has_role(datdba, 'MEMBER')) THEN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO CURRENT_USER', current_database());
  END IF;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO ostiary_app, ostiary_instance', current_schema());
END $$
"""


def isolate() -> None:
    """Make the roles, and say for each table who may do what to which rows."""
    modern = op.get_bind().dialect.server_version_info >= (16,)  # type: ignore[operator]
    for role in ROLES:
        op.execute(_MAKE_ROLE.format(role=role, able=_ABLE if modern else ""))
    op.execute(_CLOSE_DATABASE)
    for name, granted in ORGANISATION.items():
        _guard(name, f"org_id = {_OWN}", *granted)
    for name, (rows, *verbs) in SPECIAL.items():
        _guard(name, rows, *verbs)
    for name, granted in GLOBAL.items():
        _grant(name, *granted)
    for name, column in RESEALED.items():
        op.execute(f"GRANT UPDATE ({column}) ON {name} TO ostiary_instance")


def _guard(name: str, rows: str | None, app: str, instance: str) -> None:
    """Row security on a table. `rows` says which of them an organisation sees, None: none."""
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    if rows is not None:
        op.execute(f"CREATE POLICY organisation ON {name} TO ostiary_app USING ({rows}) WITH CHECK ({rows})")
    op.execute(f"CREATE POLICY instance ON {name} TO ostiary_instance USING (true) WITH CHECK (true)")
    _grant(name, app, instance)


def _grant(name: str, app: str, instance: str) -> None:
    for role, verbs in zip(ROLES, (app, instance), strict=True):
        if verbs:
            op.execute(f"GRANT {', '.join(_VERBS[verb] for verb in verbs)} ON {name} TO {role}")

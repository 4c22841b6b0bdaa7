"""One organisation does not reach another's rows on PostgreSQL, whatever the statement says."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from engine_kit import START, ManualClock, names, put, setting
from sqlalchemy import Table, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ostiary.core.fault import Fault, Kind
from ostiary.store import partitions
from ostiary.store.database import Database, connect
from ostiary.store.migrate import migrate
from ostiary.store.postgresql import INSTANCE_ROLE, TENANT_ROLE
from ostiary.store.schema import metadata
from ostiary.store.schema.access import settings, virtual_keys
from ostiary.store.schema.audit import audit_events
from ostiary.store.schema.ledger import usage
from ostiary.store.schema.people import memberships, organizations, sessions, teams, users
from ostiary.testing.postgres import LOGIN, PostgresServer

A, B = "org-a", "org-b"
# Tables without row security, and why no organisation's rows can be in them.
GLOBAL = {
    "stamp": "one row: whose database it is; the organisations' role may not even read it",
    "schema_versions": "versions of the schema; the organisations' role may not even read it",
    "alembic_version": "version of the schema; nobody but the owner may read it",
}


def filled(table: Table, **given: object) -> dict[str, object]:
    """A row with something in every column that needs it."""
    values: dict[str, object] = {}
    for column in table.c:
        if column.name in given or column.nullable:
            continue
        kind = column.type.python_type
        values[column.name] = secrets.token_bytes(16) if kind is bytes else kind()
    return values | given


@pytest.fixture
async def pg(postgres: PostgresServer) -> AsyncIterator[tuple[Database, str]]:
    """A PostgreSQL database with two organisations that each have a user, a team and a key; and its name."""
    name = f"isolation_{secrets.token_hex(6)}"
    database = connect(postgres.create_database(name))
    await migrate(database, ManualClock())
    async with database.write() as connection:
        for org in (A, B):
            await connection.execute(insert(organizations), filled(organizations, id=org, state="active"))
            await connection.execute(insert(users), filled(users, id=f"user-{org}"))
            await connection.execute(insert(memberships), filled(memberships, org_id=org, user_id=f"user-{org}"))
            await connection.execute(insert(teams), filled(teams, org_id=org, id=f"team-{org}"))
            await connection.execute(insert(virtual_keys), filled(virtual_keys, org_id=org, id=f"key-{org}"))
            await connection.execute(insert(usage), filled(usage, org_id=org, id=f"request-{org}", started=START))
            await connection.execute(insert(settings), filled(settings, org_id=org, name="same"))
    try:
        yield database, name
    finally:
        await database.close()
        postgres.drop_database(name)


async def fails(database: Database, statement: object, org: str | None = A) -> None:
    """The database refuses a statement to an organisation (or the instance)."""

    async def run() -> None:
        async with database.write(org) as connection:
            await connection.execute(statement)  # type: ignore[call-overload]

    with pytest.raises((Fault, IntegrityError)):
        await run()


# --- what the catalogue says ---


async def test_row_security_is_forced_on_every_table_but_those_that_are_global(
    postgres: PostgresServer, pg: tuple[Database, str]
) -> None:
    await partitions.ensure_around(pg[0], START)
    found = postgres.sql(
        "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')", pg[1],
    )  # fmt: skip
    assert {name for name, forced in found if forced == "f"} == set(GLOBAL)
    assert {name for name, _ in found} >= set(metadata.tables)


async def test_policies_are_for_the_two_roles_and_nothing_is_for_everybody(
    postgres: PostgresServer, pg: tuple[Database, str]
) -> None:
    policies = postgres.sql(
        "SELECT tablename, policyname, roles::text, regexp_replace(qual, '\\s+', ' ', 'g'),"
        " regexp_replace(with_check, '\\s+', ' ', 'g') FROM pg_policies",
        pg[1],
    )
    own = "( SELECT NULLIF(current_setting('ostiary.org'::text, true), ''::text) AS \"nullif\")"
    for table, policy, roles, using, *check in policies:
        assert check == [using]
        if policy == "instance":
            assert (roles, using) == (f"{{{INSTANCE_ROLE}}}", "true")
            continue
        assert (policy, roles) == ("organisation", f"{{{TENANT_ROLE}}}")
        if table not in {"organizations", "users"}:
            assert using == f"((org_id)::text = {own})"
    organisation_tables = {name for name, table in metadata.tables.items() if "org_id" in table.c} - {"sessions"}
    assert {row[0] for row in policies if row[1] == "organisation"} == organisation_tables | {"organizations", "users"}
    public = postgres.sql(
        "SELECT relname FROM pg_class, aclexplode(relacl) WHERE relnamespace = 'public'::regnamespace AND grantee = 0"
        " UNION ALL SELECT proname FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))"
        "  WHERE pronamespace = 'public'::regnamespace AND grantee = 0"
        " UNION ALL SELECT datname FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba)))"
        "  WHERE datname = current_database() AND grantee = 0", pg[1],
    )  # fmt: skip
    assert public == []


async def test_the_roles_can_neither_log_in_nor_pass_row_security_and_own_nothing(
    postgres: PostgresServer, pg: tuple[Database, str]
) -> None:
    roles = postgres.sql(
        "SELECT rolname, rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb FROM pg_roles"
        " WHERE rolname LIKE 'ostiary\\_%' ORDER BY 1", pg[1],
    )  # fmt: skip
    assert roles == [[TENANT_ROLE, "f"], [INSTANCE_ROLE, "f"], [LOGIN, "t"]]
    ours = "FROM pg_class WHERE relnamespace = 'public'::regnamespace AND"
    assert postgres.sql(f"SELECT DISTINCT relowner::regrole {ours} relkind IN ('r', 'p')", pg[1]) == [[LOGIN]]
    assert postgres.sql(f"SELECT relname {ours} relkind IN ('v', 'm')", pg[1]) == []


async def test_functions_that_run_as_the_owner_have_a_fixed_search_path_and_are_the_instances_alone(
    postgres: PostgresServer, pg: tuple[Database, str]
) -> None:
    found = postgres.sql(
        "SELECT proname, prosecdef, proconfig::text, (SELECT string_agg(DISTINCT rolname, ',') FROM aclexplode(proacl)"
        " JOIN pg_roles ON pg_roles.oid = grantee WHERE grantee <> proowner)"
        " FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1", pg[1],
    )  # fmt: skip
    config = '{"search_path=pg_catalog, pg_temp",lock_timeout=2s}'
    functions = ("ostiary_drop_partitions", "ostiary_ensure_partition")
    assert found == [[name, "t", config, INSTANCE_ROLE] for name in functions]
    await fails(pg[0], text("SELECT ostiary_drop_partitions(9999999999999)"))


# --- what a statement gets ---


@pytest.mark.attack("ISO-04")
@pytest.mark.parametrize("table", [virtual_keys, teams, memberships, settings, usage, organizations, users])
async def test_iso_04_an_organisation_sees_its_own_rows_only(pg: tuple[Database, str], table: Table) -> None:
    count = select(func.count()).select_from(table)
    for org, expected in ((A, 1), (B, 1), ("org-c", 0), (None, 2)):
        async with pg[0].read(org) as connection:
            assert (await connection.execute(count)).scalar() == expected


@pytest.mark.attack("ISO-04")
async def test_iso_04_updates_and_deletes_across_organisations_change_nothing(pg: tuple[Database, str]) -> None:
    async with pg[0].write(A) as connection:
        for statement in (
            "UPDATE virtual_keys SET blocked = true WHERE org_id = 'org-b'",
            "UPDATE organizations SET state = 'locked' WHERE id = 'org-b'",
            "DELETE FROM settings WHERE org_id = 'org-b'",
        ):
            assert (await connection.execute(text(statement))).rowcount == 0
        assert (await connection.execute(text("UPDATE virtual_keys SET blocked = true"))).rowcount == 1


@pytest.mark.attack("ISO-04")
async def test_iso_04_rows_cannot_be_written_into_or_moved_to_another_organisation(pg: tuple[Database, str]) -> None:
    await fails(pg[0], insert(settings).values(setting("planted", B)))
    await fails(pg[0], update(settings).values(org_id=B, name="moved"))
    await fails(pg[0], insert(organizations).values(filled(organizations, id="org-c")))
    await fails(pg[0], insert(usage).values(filled(usage, org_id=B, id="planted", started=START)))


@pytest.mark.attack("ISO-04")
@pytest.mark.parametrize("reference", [{"team_id": "team-org-b"}, {"user_id": "user-org-b"}, {"budget_id": "none"}])
async def test_iso_04_a_reference_to_another_organisations_object_is_refused(
    pg: tuple[Database, str], reference: dict[str, str]
) -> None:
    statement = insert(virtual_keys).values(filled(virtual_keys, org_id=A, id="new", **reference))
    for org in (A, None):  # the composite keys hold for the instance too
        await fails(pg[0], statement, org)
    own = {name: value.replace("org-b", "org-a") for name, value in reference.items() if value != "none"}
    async with pg[0].write(A) as connection:
        await connection.execute(insert(virtual_keys).values(filled(virtual_keys, org_id=A, id="new", **own)))


@pytest.mark.attack("ISO-04")
async def test_iso_04_a_name_that_exists_only_elsewhere_is_free_and_tells_nothing(pg: tuple[Database, str]) -> None:
    index = bytes(16)
    async with pg[0].write(B) as connection:
        await connection.execute(insert(teams).values(filled(teams, org_id=B, id="tb", name_index=index)))
    async with pg[0].write(A) as connection:
        await connection.execute(insert(teams).values(filled(teams, org_id=A, id="ta", name_index=index)))
    await fails(pg[0], insert(teams).values(filled(teams, org_id=A, id="ta2", name_index=index)))


@pytest.mark.attack("ISO-04")
async def test_iso_04_without_an_organisation_the_role_sees_and_writes_nothing(
    postgres: PostgresServer, pg: tuple[Database, str]
) -> None:
    as_app = f"SET ROLE {TENANT_ROLE}; "
    for table in ("virtual_keys", "organizations", "users", "usage"):
        assert postgres.sql(f"{as_app} SELECT * FROM {table}", pg[1], LOGIN) == []
    for forbidden in ("stamp", "schema_versions", "alembic_version", "sessions", "usage_default"):
        with pytest.raises(RuntimeError, match="permission denied"):
            postgres.sql(f"{as_app} SELECT * FROM {forbidden}", pg[1], LOGIN)
    with pytest.raises(RuntimeError, match="row-level security"):
        postgres.sql(f"{as_app} INSERT INTO key_spend VALUES ('', 'k', 1, 1)", pg[1], LOGIN)


@pytest.mark.attack("ISO-04")
async def test_iso_04_the_owner_of_the_tables_is_under_row_security_too(
    postgres: PostgresServer, pg: tuple[Database, str]
) -> None:
    postgres.sql("CREATE ROLE plain_owner NOLOGIN")
    try:
        postgres.sql("GRANT CREATE, USAGE ON SCHEMA public TO plain_owner", pg[1])
        postgres.sql("ALTER TABLE virtual_keys OWNER TO plain_owner", pg[1])
        assert postgres.sql("SET ROLE plain_owner; SELECT * FROM virtual_keys", pg[1]) == []
    finally:
        postgres.sql(f"REASSIGN OWNED BY plain_owner TO {LOGIN}; DROP OWNED BY plain_owner", pg[1])
        postgres.sql("DROP ROLE plain_owner")


async def test_what_was_used_and_what_happened_is_never_rewritten(pg: tuple[Database, str]) -> None:
    async with pg[0].write(A) as connection:
        await connection.execute(insert(audit_events).values(filled(audit_events, org_id=A, seq=1)))
    for org in (A, None):
        await fails(pg[0], text("UPDATE audit_events SET outcome = 'x'"), org)
        await fails(pg[0], text("DELETE FROM audit_events"), org)
        await fails(pg[0], text("UPDATE usage SET cost = 0"), org)
    await fails(pg[0], text("DELETE FROM usage"))
    await fails(pg[0], text("CREATE TEMP TABLE usage (a int)"))


# --- connections ---


@pytest.mark.attack("ISO-04")
async def test_iso_04_an_organisation_does_not_stay_on_a_pooled_connection(pg: tuple[Database, str]) -> None:
    async def sees(org: str) -> None:
        async with pg[0].read(org) as connection:
            await asyncio.sleep(0)
            assert (await connection.execute(select(settings.c.org_id))).scalars().all() == [org]

    await asyncio.gather(*(sees((A, B)[number % 2]) for number in range(100)))
    async with pg[0].read() as connection:
        assert (await connection.execute(text("SELECT current_setting('ostiary.org', true)"))).scalar() in {"", None}


@pytest.mark.attack("ISO-04")
@pytest.mark.parametrize(
    "left", ["SELECT set_config('ostiary.org', 'org-b', false)", f"SET ROLE {INSTANCE_ROLE}", "RESET ROLE"]
)
async def test_iso_04_a_connection_with_rights_left_on_it_is_thrown_away(pg: tuple[Database, str], left: str) -> None:
    async def leave(connection: AsyncConnection) -> None:
        await connection.execute(text(left))

    async with pg[0].write(A) as connection:
        await leave(connection)
    with pytest.raises(Fault) as caught:
        await names(pg[0], A)
    assert caught.value.kind is Kind.UNAVAILABLE
    for org in (A, B):
        async with pg[0].read(org) as connection:
            assert (await connection.execute(select(settings.c.org_id))).scalars().all() == [org]


async def test_an_organisation_without_an_id_is_nobody(pg: tuple[Database, str]) -> None:
    with pytest.raises(ValueError, match="has an id"):
        await put(pg[0], "x", org_id="")


# --- months ---


async def test_rows_without_a_month_wait_in_the_default_partition_and_move(
    postgres: PostgresServer, pg: tuple[Database, str]
) -> None:
    where = "SELECT tableoid::regclass, count(*) FROM usage GROUP BY 1"
    assert postgres.sql(where, pg[1]) == [["usage_default", "2"]]
    assert await partitions.ensure_around(pg[0], START) == 4
    assert await partitions.ensure_around(pg[0], START) == 0
    month = partitions.month_of(START)
    assert postgres.sql(where, pg[1]) == [[month.name, "2"]]
    assert [one.name for one in await partitions.months(pg[0])] == [
        "usage_p202608", "usage_p202609", "usage_p202610", "usage_p202611",
    ]  # fmt: skip
    async with pg[0].read(A) as connection:
        assert (await connection.execute(select(usage.c.id))).scalars().all() == ["request-org-a"]


async def test_months_meet_without_a_gap_and_only_those_that_ended_are_dropped(pg: tuple[Database, str]) -> None:
    first, last = partitions.month_of(START), partitions.month_of(START + 400 * 86_400_000)
    await partitions.ensure(pg[0], first.first_ms, last.first_ms)
    found = await partitions.months(pg[0])
    assert len(found) == 14
    assert [one.end_ms for one in found[:-1]] == [one.first_ms for one in found[1:]]
    async with pg[0].write() as connection:
        for position, at in enumerate((first.first_ms, first.end_ms - 1, first.end_ms)):
            row = filled(usage, org_id=A, id=f"edge-{position}", started=at)
            await connection.execute(insert(usage).values(row))
    assert await partitions.drop_expired(pg[0], first.end_ms - 1) == 0
    assert await partitions.drop_expired(pg[0], first.end_ms) == 1
    async with pg[0].read() as connection:
        assert (await connection.execute(select(usage.c.id))).scalars().all() == ["edge-2"]


async def test_two_processes_make_the_same_months_at_once(pg: tuple[Database, str]) -> None:
    made = await asyncio.gather(*(partitions.ensure_around(pg[0], START) for _ in range(3)))
    assert sorted(made) == [0, 0, 4]


async def test_an_organisation_reaches_no_partition(postgres: PostgresServer, pg: tuple[Database, str]) -> None:
    await partitions.ensure_around(pg[0], START)
    for month in ("usage_default", partitions.month_of(START).name):
        await fails(pg[0], text(f"SELECT * FROM {month}"))
        await fails(pg[0], text(f"SELECT * FROM {month}"), None)


def test_every_table_without_an_organisation_is_known() -> None:
    unowned = {name for name, table in metadata.tables.items() if "org_id" not in table.c}
    assert unowned == {"organizations", "users", *GLOBAL} - {"alembic_version"}
    assert sessions.c.org_id.nullable

"""Every authority of leases is one: the same rules at a real hub and in a real PostgreSQL, through the port that the agent uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import sqlalchemy as sa

from agent.reporting.sinks import http
from agent.services.leasing import base, postgres
from agent.services.leasing import hub as hub_leases
from domain import deployment, errors, hashing, lease
from kit import databases, runtime
from store import leases as tables
from tests.earnings import factory, hub
from tests.earnings.conftest import postgres_server  # noqa: F401
from tests.store import postgres as servers

ACCOUNT = factory.key(7)
Make = Callable[..., base.Leases]


def holder(name: str) -> bytes:
    return lease.holder_of(name, random=hashing.keccak256(name.encode())[:24])


@pytest.fixture(params=["hub", "postgresql"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """`make(name)` is one agent's side."""
    if request.param == "postgresql":
        table = tables.LeaseTable(request.getfixturevalue("postgres_server").empty())

        def of_table(name: str, *, ttl_s: int = 60, last_token: int = 0) -> base.Leases:
            return postgres.PostgresLeases(
                table,
                chain_id=factory.CHAIN,
                account=ACCOUNT.address,
                holder=holder(name),
                ttl_s=ttl_s,
                clock=runtime.SystemClock(),
                last_token=last_token,
            )

        yield of_table
        return
    async with hub.running(tmp_path) as h:

        def of_hub(name: str, *, ttl_s: int = 60, last_token: int = 0) -> base.Leases:
            return at_hub(h.url, h.session, name, ttl_s=ttl_s, last_token=last_token)

        yield of_hub


def at_hub(
    url: str,
    session: aiohttp.ClientSession,
    name: str,
    *,
    document: deployment.Document | None = None,
    ttl_s: int = 60,
    last_token: int = 0,
    clock: runtime.Clock | None = None,
) -> hub_leases.HubLeases:
    return hub_leases.HubLeases(
        http.HubClient(url, session=session, token=None),
        ACCOUNT,
        document or factory.document(),
        chain_id=factory.CHAIN,
        holder=holder(name),
        ttl_s=ttl_s,
        clock=clock or runtime.SystemClock(),
        last_token=last_token,
    )


async def test_one_holds_and_the_other_hears_who_and_how_long(make: Make) -> None:
    first = await make("a").acquire()
    with pytest.raises(base.Taken, match="another holder has the lease") as refused:
        await make("b").acquire()
    assert lease.shown(holder("a")) in str(refused.value)
    assert 0 < refused.value.for_s <= 60
    assert first.token == 1


async def test_who_looks_takes_nothing_and_hears_who_holds_it(make: Make) -> None:
    looking = make("looking")
    assert "nobody holds" in await looking.look()
    holding = make("a")
    held = await holding.acquire()
    said = await looking.look()
    assert lease.shown(holder("a")) in said and "seconds" in said
    assert (await holding.renew(held)).token == held.token


async def test_who_looks_at_a_hub_hears_of_a_wrong_clock_and_of_an_account_that_is_not_listed(tmp_path: Path) -> None:
    clock = WrongClock()
    async with hub.running(tmp_path, accounts=frozenset([factory.STRANGER.address])) as h:
        with pytest.raises(errors.Transient, match="account not listed"):
            await at_hub(h.url, h.session, "a").look()
        clock.wrong_s = 7200
        with pytest.raises(errors.Transient, match="clocks differ") as refused:
            await at_hub(h.url, h.session, "a", clock=clock).look()
        assert "set the clocks" in refused.value.cure


async def test_who_looks_twice_within_a_second_is_not_told_that_something_is_wrong(tmp_path: Path) -> None:
    async with hub.running(tmp_path) as h:
        said = [await at_hub(h.url, h.session, "a").look() for _ in range(3)]
    assert all("the hub grants leases of this account" in text for text in said)


async def test_who_looks_at_a_lease_database_makes_no_table(postgres_server: servers.Server) -> None:  # noqa: F811
    url = postgres_server.empty()
    assert await tables.LeaseTable(url).look(chain_id=1, account=bytes(20)) is None
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    assert await databases.run(lambda: sa.inspect(engine).get_table_names()) == []
    await databases.run(engine.dispose)


@asynccontextmanager
async def _role(url: str, name: str, *grants: str) -> AsyncIterator[str]:
    """The address for a role that has nothing but `grants`."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))

    def run(*statements: str) -> None:
        with engine.begin() as c:
            for statement in statements:
                c.execute(sa.text(statement))

    await databases.run(lambda: run(f"CREATE ROLE {name} LOGIN", *(f"{grant} TO {name}" for grant in grants)))
    try:
        yield url.replace("stakeside@", f"{name}@")
    finally:
        await databases.run(lambda: run(f"DROP OWNED BY {name}", f"DROP ROLE {name}"))
        await databases.run(engine.dispose)


def _of(url: str, name: str) -> base.Leases:
    return postgres.PostgresLeases(
        tables.LeaseTable(url), chain_id=1, account=ACCOUNT.address, holder=holder(name), ttl_s=60, clock=runtime.SystemClock()
    )  # fmt: skip


def _looking(url: str) -> base.Leases:
    return _of(url, "looking")


USE = "GRANT USAGE ON SCHEMA public"
MAY_NOT = {
    "nothing": ((USE,), "permission denied"),
    "reads only": ((USE, "GRANT SELECT ON stakeside_lease"), "permission denied"),
    "adds and cannot renew": ((USE, "GRANT SELECT, INSERT ON stakeside_lease"), "permission denied"),
    "renews and cannot add": ((USE, "GRANT SELECT, UPDATE ON stakeside_lease"), "permission denied"),
}


@pytest.mark.parametrize(("grants", "why"), MAY_NOT.values(), ids=MAY_NOT)
async def test_who_looks_with_a_role_that_may_not_write_leases_is_told_what_to_grant(
    grants: tuple[str, ...],
    why: str,
    postgres_server: servers.Server,  # noqa: F811
) -> None:
    url = postgres_server.empty()
    own = _of(url, "a")
    held = await own.acquire()
    async with _role(url, "weak", *grants) as weak:
        with pytest.raises(errors.Transient, match=why) as refused:
            await _looking(weak).look()
    assert "GRANT SELECT, INSERT, UPDATE ON stakeside_lease TO weak" in refused.value.cure
    assert (await own.acquire()).token == held.token, "nothing was taken"


async def test_who_looks_where_the_table_is_missing_is_told_when_the_role_may_not_make_it(
    postgres_server: servers.Server,  # noqa: F811
) -> None:
    url = postgres_server.empty()
    async with _role(url, "weak", USE) as weak:
        with pytest.raises(errors.Transient, match="permission denied for schema") as refused:
            await _looking(weak).look()
        assert "GRANT CREATE ON SCHEMA" in refused.value.cure
    async with _role(url, "maker", USE, "GRANT CREATE ON SCHEMA public") as maker:
        assert "lets this role write" in await _looking(maker).look()
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    assert await databases.run(lambda: sa.inspect(engine).get_table_names()) == []
    await databases.run(engine.dispose)


async def test_who_looks_while_another_session_locks_the_table_is_not_told_to_grant_rights(
    postgres_server: servers.Server,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "LOCK_TIMEOUT", "100ms")
    url = postgres_server.empty()
    await _of(url, "a").acquire()
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with databases.transaction(engine) as c:
        await databases.run(lambda: c.execute(sa.text("LOCK TABLE stakeside_lease IN ACCESS EXCLUSIVE MODE")))
        with pytest.raises(errors.Transient, match="refuses") as refused:
            await _looking(url).look()
    await databases.run(engine.dispose)
    assert "lock timeout" in str(refused.value) and "GRANT" not in str(refused.value)


async def test_who_looks_at_a_database_that_only_reads_is_told(postgres_server: servers.Server) -> None:  # noqa: F811
    """As on a replica."""
    url = postgres_server.empty()
    await _of(url, "a").acquire()
    grants = (USE, "GRANT SELECT, INSERT, UPDATE ON stakeside_lease")
    async with _role(url, "reader", *grants) as reader:
        assert "lets this role write" in await _looking(reader).look()
        engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))

        def only_reads() -> None:
            with engine.begin() as c:
                c.execute(sa.text("ALTER ROLE reader SET default_transaction_read_only = on"))

        await databases.run(only_reads)
        await databases.run(engine.dispose)
        with pytest.raises(errors.Transient, match="read-only transaction") as refused:
            await _looking(reader).look()
        assert "primary" in refused.value.cure


async def test_who_looks_leaves_no_row_and_a_table_of_before_as_it_is(postgres_server: servers.Server) -> None:  # noqa: F811
    url = postgres_server.empty()
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))

    def before() -> None:
        with engine.begin() as c:
            tables.metadata.create_all(c)
            c.execute(sa.text("ALTER TABLE stakeside_lease DROP COLUMN grants, DROP COLUMN ttl_s"))

    await databases.run(before)
    assert "lets this role write" in await _looking(url).look()

    def found() -> tuple[int, int]:
        with engine.connect() as c:
            count = c.execute(sa.text("SELECT count(*) FROM stakeside_lease")).scalar_one()
            return len(sa.inspect(c).get_columns("stakeside_lease")), count

    assert await databases.run(found) == (5, 0)
    await databases.run(engine.dispose)


async def test_a_lease_is_renewed_and_released(make: Make) -> None:
    one, other = make("a"), make("b")
    held = await one.acquire()
    for _ in range(3):
        held = await one.renew(held)
    await one.release(held)
    taken = await other.acquire()
    assert taken.token > held.token
    with pytest.raises(base.Taken):
        await one.renew(held)


async def test_what_nobody_holds_any_more_is_not_renewed(make: Make) -> None:
    one = make("a")
    held = await one.acquire()
    await one.release(held)
    with pytest.raises(base.Ended):
        await one.renew(held)
    assert (await one.acquire()).token > held.token


async def test_a_lease_ends_and_the_next_holder_fences_the_last(make: Make) -> None:
    one, other = make("a", ttl_s=2), make("b")
    held = await one.acquire()

    async def attempt() -> base.Held | None:
        try:
            return await other.acquire()
        except base.Taken:
            await asyncio.sleep(0.2)
            return None

    assert (await hub.until(attempt)).token > held.token


async def test_no_clock_on_a_wall_ends_a_shared_lease_or_makes_it_longer(postgres_server: servers.Server) -> None:  # noqa: F811
    url = postgres_server.empty()
    clocks = {name: runtime.ManualClock() for name in "abc"}
    first, second, third = (
        postgres.PostgresLeases(
            tables.LeaseTable(url),
            chain_id=factory.CHAIN,
            account=ACCOUNT.address,
            holder=holder(name),
            ttl_s=60,
            clock=clock,
        )
        for name, clock in clocks.items()
    )
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))

    async def step_the_database(hours: int) -> None:
        """As if its clock had been so wrong when it wrote the row."""

        def work() -> None:
            with engine.begin() as c:
                c.execute(sa.text(f"UPDATE stakeside_lease SET expires_at = expires_at + interval '{hours} hours'"))

        await databases.run(work)

    held = await first.acquire()
    for hours in (-9, 18, -9):
        await step_the_database(hours)
        with pytest.raises(base.Taken):
            await second.acquire()
    await clocks["b"].advance(59)
    with pytest.raises(base.Taken) as refused:
        await second.acquire()
    assert refused.value.for_s == 1
    held = await first.renew(held)  # in the last second: what was seen is seen no more
    await clocks["b"].advance(2)
    with pytest.raises(base.Taken) as refused:
        await second.acquire()
    assert refused.value.for_s == 60
    await clocks["b"].advance(60)
    with pytest.raises(base.Taken):
        await third.acquire()  # has not seen it for long enough
    taken = await second.acquire()
    assert taken.token > held.token
    with pytest.raises(base.Taken):
        await first.renew(held)
    await databases.run(engine.dispose)


async def test_a_lease_database_that_goes_back_gives_nobody_back_what_another_one_took(
    postgres_server: servers.Server,  # noqa: F811
) -> None:
    """As after a restore, or a failover to a replica that was behind: whoever was told that another one holds the account waits that one out."""
    url = postgres_server.empty()
    clock = runtime.ManualClock()
    first, second = (
        postgres.PostgresLeases(
            tables.LeaseTable(url),
            chain_id=factory.CHAIN,
            account=ACCOUNT.address,
            holder=holder(name),
            ttl_s=60,
            clock=clock,
        )
        for name in "ab"
    )
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))

    def run(text: str, **values: object) -> Callable[[], list[Any]]:
        def work() -> list[Any]:
            with engine.begin() as c:
                return [tuple(row) for row in c.execute(sa.text(text + " RETURNING holder, token, grants"), values)]

        return work

    await first.acquire()
    ((was, token, grants),) = await databases.run(run("UPDATE stakeside_lease SET grants = grants"))
    with pytest.raises(base.Taken):
        await second.acquire()
    await clock.advance(61)
    await second.acquire()
    with pytest.raises(base.Taken):
        await first.acquire()
    await databases.run(
        run("UPDATE stakeside_lease SET holder = :h, token = :t, grants = :g", h=was, t=token, g=grants)
    )
    with pytest.raises(base.Taken):
        await first.acquire()
    await clock.advance(61)
    assert (await first.acquire()).token > token
    await databases.run(engine.dispose)


async def test_agents_of_before_share_the_table_of_leases(postgres_server: servers.Server) -> None:  # noqa: F811
    """Their table is added to, their tokens go on, and what they renew is not taken over."""
    url = postgres_server.empty()
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    old = {"account": ACCOUNT.address, "holder": holder("old")}

    def run(text: str) -> Callable[[], None]:
        def work() -> None:
            with engine.begin() as c:
                c.execute(sa.text(text), old if ":account" in text else {})

        return work

    await databases.run(run("""
        CREATE TABLE stakeside_lease (chain_id bigint, account bytea, holder bytea NOT NULL, token bigint NOT NULL,
        expires_at timestamptz NOT NULL, PRIMARY KEY (chain_id, account))"""))  # fmt: skip
    renewed = f"""
        INSERT INTO stakeside_lease AS l (chain_id, account, holder, token, expires_at)
        VALUES ({factory.CHAIN}, :account, :holder, 7, clock_timestamp() + interval '60 seconds')
        ON CONFLICT (chain_id, account) DO UPDATE SET expires_at = clock_timestamp() + interval '60 seconds'
        WHERE l.holder = excluded.holder"""
    await databases.run(run(renewed))
    clock = runtime.ManualClock()
    asking = postgres.PostgresLeases(
        tables.LeaseTable(url),
        chain_id=factory.CHAIN,
        account=ACCOUNT.address,
        holder=holder("new"),
        ttl_s=60,
        clock=clock,
    )
    for _ in range(3):
        with pytest.raises(base.Taken):
            await asking.acquire()
        await clock.advance(61)
        await databases.run(run(renewed))
    with pytest.raises(base.Taken):
        await asking.acquire()
    await clock.advance(61)
    held = await asking.acquire()
    assert held.token == 8
    await asking.release(held)
    # Theirs, by the only time that they know: what is given back has none left.
    await databases.run(
        run("""
        UPDATE stakeside_lease SET holder = :holder, token = token + 1, expires_at = clock_timestamp() + interval '60 seconds'
        WHERE expires_at <= clock_timestamp() AND account = :account""")
    )
    with pytest.raises(base.Taken) as refused:
        await asking.acquire()
    assert 50 < refused.value.for_s <= 60
    await clock.advance(61)
    assert (await asking.acquire()).token == 10
    await databases.run(engine.dispose)


def _row(url: str) -> tuple[sa.Engine, Callable[..., Any]]:
    """A hand at the table, as of a server that went back."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+asyncpg://"))

    async def go(text: str, **values: object) -> list[Any]:
        def work() -> list[Any]:
            with engine.begin() as c:
                found = c.execute(sa.text(text), values)
                return [tuple(row) for row in found] if found.returns_rows else []

        return await databases.run(work)

    return engine, go


async def test_who_was_cut_off_longer_than_its_lease_does_not_take_it_up_from_a_database_that_went_back(
    postgres_server: servers.Server,  # noqa: F811
) -> None:
    """It was never told that another one took over, and that one's lease may last."""
    url = postgres_server.empty()
    engine, go = _row(url)
    clock = runtime.ManualClock()
    first, second = (
        postgres.PostgresLeases(
            tables.LeaseTable(url), chain_id=1, account=ACCOUNT.address, holder=holder(name), ttl_s=60, clock=clock
        )
        for name in "ab"
    )
    held = await first.acquire()
    (was,) = await go("SELECT holder, token, grants, ttl_s, expires_at FROM stakeside_lease")
    with pytest.raises(base.Taken):
        await second.acquire()
    await clock.advance(61)
    taken = await second.acquire()
    await go(
        "UPDATE stakeside_lease SET holder = :h, token = :t, grants = :g, ttl_s = :s, expires_at = :e",
        **dict(zip("htgse", was, strict=True)),
    )
    with pytest.raises(base.Ended):
        await first.renew(held)
    with pytest.raises(base.Taken):
        await first.acquire()
    await clock.advance(61)
    assert clock.monotonic() > taken.until_monotonic
    assert (await first.acquire()).token > held.token
    await databases.run(engine.dispose)


@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM stakeside_lease",
        "UPDATE stakeside_lease SET ttl_s = 0, expires_at = 'epoch', grants = grants - 1, token = token - 1",
    ],
    ids=["nothing", "given back"],
)
async def test_who_stands_by_waits_out_what_it_saw_though_the_database_forgot_it(
    postgres_server: servers.Server,  # noqa: F811
    loss: str,
) -> None:
    url = postgres_server.empty()
    engine, go = _row(url)
    clock = runtime.ManualClock()
    first, second = (
        postgres.PostgresLeases(
            tables.LeaseTable(url), chain_id=1, account=ACCOUNT.address, holder=holder(name), ttl_s=60, clock=clock
        )
        for name in "ab"
    )
    held = await first.renew(await first.acquire())
    with pytest.raises(base.Taken):
        await second.acquire()
    await go(loss)
    for _ in range(3):
        with pytest.raises(base.Taken):
            await second.acquire()
        await clock.advance(19)
    assert clock.monotonic() > held.until_monotonic
    await clock.advance(4)
    assert (await second.acquire()).token > 0
    await databases.run(engine.dispose)


async def test_what_is_given_back_is_taken_at_once_by_who_stood_by(postgres_server: servers.Server) -> None:  # noqa: F811
    url = postgres_server.empty()
    first, second = _of(url, "a"), _of(url, "b")
    held = await first.acquire()
    with pytest.raises(base.Taken):
        await second.acquire()
    await first.release(held)
    assert (await second.acquire()).token == held.token + 1


async def test_a_renewal_is_of_the_token_that_was_granted(postgres_server: servers.Server) -> None:  # noqa: F811
    """Not of whatever the row holds under the same name."""
    url = postgres_server.empty()
    engine, go = _row(url)
    own = _of(url, "a")
    held = await own.acquire()
    await go("UPDATE stakeside_lease SET token = token + 1")
    with pytest.raises(errors.StakesideError):
        await own.renew(held)
    assert await go("SELECT grants FROM stakeside_lease") == [(1,)]
    await databases.run(engine.dispose)


async def test_of_many_agents_one_gets_it(make: Make) -> None:
    answers = await asyncio.gather(*(make(f"agent {n}").acquire() for n in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, base.Held) for answer in answers) == 1
    assert sum(isinstance(answer, base.Taken) for answer in answers) == 7


async def test_tokens_go_on_above_what_a_book_has_seen(make: Make) -> None:
    first = make("a", last_token=40)
    held = await first.acquire()
    assert held.token == 41
    await first.release(held)
    assert (await make("b", last_token=90).acquire()).token == 91, "the authority was restored from an old copy"


@asynccontextmanager
async def lying(change: Callable[[lease.SignedGrant], lease.SignedGrant]) -> AsyncIterator[http.HubClient]:
    """A hub whose grants are changed on their way."""

    class Liar(http.HubClient):
        async def lease(self, payload: bytes) -> lease.SignedGrant:
            asked = lease.request_from_wire(msgspec.json.decode(payload, type=lease.SignedRequest))
            digest = lease.request_digest(asked, deployment=factory.document().digest())
            grant = lease.Grant(digest, asked.account, asked.holder, 1, asked.ttl_s)
            signature = factory.sign(
                factory.HUB,
                lease.grant_digest(grant, chain_id=asked.chain_id, deployment=factory.document().digest()),
            )
            honest = lease.grant_to_wire(
                grant, chain_id=asked.chain_id, deployment=factory.document().digest(), signature=signature
            )
            return change(honest)

    async with aiohttp.ClientSession() as session:
        yield Liar("http://hub.invalid", session=session, token=None)


def _grant(**changes: str) -> Callable[[lease.SignedGrant], lease.SignedGrant]:
    return lambda signed: msgspec.structs.replace(signed, grant=msgspec.structs.replace(signed.grant, **changes))


def _by_a_stranger(signed: lease.SignedGrant) -> lease.SignedGrant:
    grant = lease.grant_from_wire(signed)
    digest = lease.grant_digest(grant, chain_id=factory.CHAIN, deployment=factory.document().digest())
    return msgspec.structs.replace(signed, signature=hashing.hex0x(factory.sign(factory.STRANGER, digest)))


@pytest.mark.parametrize(
    "change",
    [
        _grant(token="9"),
        _grant(token="0"),
        _grant(expires_in="61"),
        _grant(expires_in="59"),
        _grant(holder="0x" + "22" * 32),
        _grant(account="0x" + "22" * 20),
        _grant(request="0x" + "22" * 32),
        _by_a_stranger,
    ],
    ids=["token", "no token", "longer", "shorter", "holder", "account", "another request", "another key"],
)
async def test_a_grant_that_the_hub_did_not_sign_for_us_is_not_believed(
    change: Callable[[lease.SignedGrant], lease.SignedGrant],
) -> None:
    async with lying(change) as client:
        asking = hub_leases.HubLeases(
            client,
            ACCOUNT,
            factory.document(),
            chain_id=factory.CHAIN,
            holder=holder("a"),
            ttl_s=60,
            clock=runtime.SystemClock(),
        )
        with pytest.raises(errors.BadAnswer):
            await asking.acquire()


async def test_an_honest_grant_passes_the_same_way() -> None:
    async with lying(lambda signed: signed) as client:
        asking = hub_leases.HubLeases(
            client,
            ACCOUNT,
            factory.document(),
            chain_id=factory.CHAIN,
            holder=holder("a"),
            ttl_s=60,
            clock=runtime.SystemClock(),
        )
        assert (await asking.acquire()).token == 1


class WrongClock(runtime.SystemClock):
    wrong_s = 0.0

    def now(self) -> float:
        return super().now() + self.wrong_s


async def test_who_asked_in_a_wrong_time_asks_in_the_right_one_again(tmp_path: Path) -> None:
    clock = WrongClock()
    async with hub.running(tmp_path, clock=clock) as h:
        asking = at_hub(h.url, h.session, "a", clock=clock)
        clock.wrong_s = 7200
        held = await asking.acquire()
        clock.wrong_s = 0
        assert (await asking.renew(held)).token == held.token


async def test_a_hub_of_another_deployment_is_asked_again_later_and_named(tmp_path: Path) -> None:
    other = msgspec.structs.replace(factory.document(), name="another")
    async with hub.running(tmp_path) as h:
        with pytest.raises(errors.Transient, match="wrong deployment"):
            await at_hub(h.url, h.session, "a", document=other).acquire()


async def test_an_authority_that_is_away_is_transient(postgres_server: servers.Server) -> None:  # noqa: F811
    async with aiohttp.ClientSession() as session:
        with pytest.raises(errors.Transient, match="does not answer"):
            await at_hub("http://127.0.0.1:9", session, "a").acquire()
    table = tables.LeaseTable("postgresql://nobody@/gone?host=" + str(postgres_server.folder), timeout_s=2)
    with pytest.raises(errors.Transient):
        await table.release(chain_id=1, account=bytes(20), holder=bytes(32), token=1)


def test_leases_are_not_shared_through_a_file() -> None:
    with pytest.raises(errors.BadConfig, match="PostgreSQL only"):
        tables.LeaseTable("sqlite:///leases.db")

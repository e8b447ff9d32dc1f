"""The store keeps a decision whole or not at all, and gives back what it was given."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from loads.scheduler import tables
from loads.scheduler.cluster import Claim, Cluster, Refusal, Run, Shard, Worker
from loads.scheduler.database import StoreError, migrate, open_engine
from loads.scheduler.effects import Note, PutRows
from loads.scheduler.reader import Reader
from loads.scheduler.store import EPOCH_FREE_NS, EpochLost, Store
from sqlalchemy import Engine, create_engine, delete, insert, inspect, select, text

from loads_queue.messages import Clock, End, Hello, Totals
from loads_queue.model.states import ClaimState, RunState, ShardState

STEP = {
    "name": "only",
    "load": {"rate": 2, "for": "2s"},
    "http": {"base_url": "http://127.0.0.1:9", "do": [{"get": "/"}]},
}


def filled(store: Store, now: int = 100) -> Cluster:
    """A cluster with one of everything, every field away from its default."""
    epoch = store.take_epoch("me", now)
    assert epoch is not None
    cluster = Cluster(epoch=epoch)
    run = Run("r1", "p", "plan", "ann", 3, {"name": "plan", "steps": [STEP]}, {"A": "1"}, {"f": "0" * 64}, 2, 7)
    run.state, run.reason, run.start_at, run.shards = RunState.RUNNING, "because", 1_000, (1,)
    shard = Shard("r1", 0, 0, ShardState.GRANTED, 2, 1, 9, "c1")
    claim = Claim("c1", "r1", 0, 0, 2, "w", "life", 5, 11, 12, (3, 4), ClaimState.RUNNING, 4, 3, 99, 10, 20)
    run.changes = {"0": ((5, 1, 2),)}
    claim.totals = Totals(next=2, started=2, attempted=2, in_flight=1, held_from_ns=0)
    claim.end = End("crashed", "exit 1", "boom", 55)
    claim.warnings, claim.health = ("mind",), {"cpu_s": 1.5}
    hello = Hello("1", "h", 1, ("127.0.0.1",))
    worker = Worker("w", "life", hello, 4, Clock(5, 6), {"cpu": 1}, 8, {10, 12}, 3, 50, 12)
    worker.refusals["c9"] = Refusal("c9", "r1", "only", 0, 1, "no")
    cluster.runs["r1"], cluster.shards[shard.key], cluster.claims["c1"], cluster.workers["w"] = (
        run,
        shard,
        claim,
        worker,
    )
    for thing in (run, shard, claim, worker):
        cluster.touch(thing)
    return cluster


def commit(store: Store, cluster: Cluster, **more) -> list:
    given = {"notes": [], "rows": [], "messages": [], "received": [], "orders": [], "now": 1, **more}
    return store.commit(cluster, **given)


def test_what_is_committed_comes_back_whole(url: str) -> None:
    store = Store(url)
    cluster = filled(store)
    expected = copy.deepcopy(cluster)
    commit(store, cluster, messages=[("control.w", "{}")], received=["job.r1"])
    again = Store(url)
    loaded = Cluster(epoch=cluster.epoch)
    again.load(loaded)
    assert loaded.runs == expected.runs
    assert loaded.shards == expected.shards
    assert loaded.claims == expected.claims
    assert loaded.workers == expected.workers
    (message,) = again.outgoing()
    assert (message.queue, message.body) == ("control.w", "{}")
    store.sent([message])
    assert again.outgoing() == []
    assert again.received("job.r1") and not again.received("job.r2")


def test_a_finished_run_is_not_loaded_but_stays_readable(url: str) -> None:
    store = Store(url)
    cluster = filled(store)
    cluster.runs["r1"].state = RunState.FINISHED
    commit(store, cluster, notes=[Note("r1", 5, "final", "ann")])
    loaded = Cluster(epoch=cluster.epoch)
    store.load(loaded)
    assert not loaded.runs and not loaded.shards and not loaded.claims
    view = Reader(url).run_view("r1")
    assert view is not None and view.final and [event.text for event in view.events] == ["final"]


def test_the_higher_sequence_wins_in_whatever_order_rows_come(url: str) -> None:
    store = Store(url)
    cluster = filled(store)
    rows = ({"second": 0, "started": 1, "ok": 1}, {"second": 1, "started": 1, "in_flight": 1})
    first = PutRows("r1", 0, 0, "c1", 4, rows)
    later = PutRows("r1", 0, 0, "c1", 7, ({"second": 1, "started": 1, "ok": 1},))
    commit(store, cluster, rows=[later])
    reader = Reader(url)
    assert [row.ok for row in reader.run_view("r1").steps[0].rows] == [1]
    commit(store, cluster, rows=[first, first])
    rows = reader.run_view("r1").steps[0].rows
    assert [(row.second, row.ok, row.in_flight) for row in rows] == [(0, 1, 0), (1, 1, 0)]
    assert rows == Reader(url).run_view("r1").steps[0].rows


def test_one_acting_scheduler(url: str) -> None:
    first, second = Store(url), Store(url)
    assert first.take_epoch("a", 0) == 1
    assert second.take_epoch("b", EPOCH_FREE_NS - 1) is None
    first.renew_epoch(1, EPOCH_FREE_NS)
    assert second.take_epoch("b", 2 * EPOCH_FREE_NS - 1) is None
    assert second.take_epoch("b", 2 * EPOCH_FREE_NS) == 2
    with pytest.raises(EpochLost):
        first.renew_epoch(1, 2 * EPOCH_FREE_NS)
    cluster = Cluster(epoch=1)
    with pytest.raises(EpochLost):
        commit(first, cluster, messages=[("jobs", "{}")])
    assert second.outgoing() == []
    second.free_epoch(2)
    assert first.take_epoch("a", 2 * EPOCH_FREE_NS) == 3


def test_what_another_scheduler_has_to_send_is_not_forgotten_by_one_before_it(url: str) -> None:
    """An id of the outbox may be given again once it is empty; the first one's word comes late."""
    first, second, third = Store(url), Store(url), Store(url)
    (old,) = commit(first, Cluster(epoch=first.take_epoch("a", 0) or 0), messages=[("jobs", "old")])
    first.free_epoch(1)
    assert second.take_epoch("b", 1) == 2
    second.sent(second.outgoing())
    second.free_epoch(2)
    (new,) = commit(third, Cluster(epoch=third.take_epoch("c", 2) or 0), messages=[("jobs", "new")])
    assert old.id == new.id
    first.sent([old])
    assert third.outgoing() == [new]
    third.sent([new])
    assert third.outgoing() == []


def test_the_id_of_a_dead_letter_is_given_once(url: str) -> None:
    store = Store(url)
    given = []
    for body in "abc":
        store.dead_letter("jobs", 1, "why", body)
        (letter,) = Reader(store.engine).dead_letters()
        given.append(letter["id"])
        store.bury(letter["id"])
    assert len(set(given)) == 3 and Reader(store.engine).dead_letters() == []


def test_an_order_is_taken_once(url: str) -> None:
    store = Store(url)
    cluster = filled(store)
    commit(store, cluster)
    Reader(url).request_abort("r1", "ann")
    (order,) = store.orders()
    assert (order.run, order.action, order.args, order.who) == ("r1", "abort", {}, "ann")
    commit(store, cluster, orders=[order.id])
    assert store.orders() == []


def test_a_reader_waits_for_a_database_that_nobody_has_made(url: str) -> None:
    assert Reader(url).run_view("r1") is None


def test_migrations_and_tables_say_the_same(tmp_path: Path) -> None:
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with migrated.begin() as connection:
        migrate(connection)
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == tables.HEAD
    made = open_engine(f"sqlite:///{tmp_path / 'made.db'}")
    shapes = []
    for engine in (migrated, made):
        look = inspect(engine)
        with engine.connect() as connection:
            made_by = dict(connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")).all())
        shapes.append({
            table: (
                "AUTOINCREMENT" in made_by[table],
                sorted((column["name"], str(column["type"]), column["nullable"]) for column in look.get_columns(table)),
                look.get_pk_constraint(table)["constrained_columns"],
                sorted((index["name"], tuple(index["column_names"])) for index in look.get_indexes(table)),
            )
            for table in look.get_table_names()
        })  # fmt: skip
    assert shapes[0] == shapes[1]
    open_engine(f"sqlite:///{tmp_path / 'migrated.db'}")


def of_the_first_version(url: str) -> Engine:
    """A database as the first version made it."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        migrate(connection, "0001")
    return engine


def test_an_older_database_is_migrated_and_keeps_what_it_holds(url: str) -> None:
    old = of_the_first_version(url)
    texts = ["first", "zero\N{SYMBOL FOR NULL}byte", "third"]
    with old.begin() as connection:
        for text_ in texts:
            values = {"queue": "jobs", "kind": "Job", "at": 10**18, "reason": f"why {text_}", "body": text_}
            connection.execute(insert(tables.dead_letters).values(**values))
        connection.execute(insert(tables.inbox).values(id="job.r1", at=7))
        before = connection.execute(select(tables.dead_letters).order_by(tables.dead_letters.c.id)).all()
        connection.execute(delete(tables.dead_letters).where(tables.dead_letters.c.id == before[2].id))
        gone = {"run": "", "action": "discard", "args": {"id": before[2].id}, "who": "ann", "at": 1, "taken": True}
        connection.execute(insert(tables.orders).values(**gone))
    old.dispose()
    store = Store(url)
    with store.engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [tables.HEAD]
        after = connection.execute(select(tables.dead_letters).order_by(tables.dead_letters.c.id)).all()
    assert after == before[:2] and store.received("job.r1")
    for letter in after:
        store.bury(letter.id)
    store.dead_letter("jobs", 1, "new", "new")
    (new,) = Reader(store.engine).dead_letters()
    assert new["id"] > before[2].id
    store.close()
    Store(url).close()


def test_an_older_database_without_dead_letters_is_migrated(url: str) -> None:
    of_the_first_version(url).dispose()
    store = Store(url)
    store.dead_letter("jobs", 1, "new", "new")
    assert [each["id"] for each in Reader(store.engine).dead_letters()] == [1]
    store.close()


def test_a_database_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'theirs.db'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE customers (id INTEGER)"))
    with pytest.raises(StoreError, match="not Loads'"):
        open_engine(f"sqlite:///{tmp_path / 'theirs.db'}")


@pytest.mark.parametrize("url", ["nonsense", "oracle+x://a:secret@b/c", "sqlite:////no/such/folder/x.db"])
def test_a_database_that_cannot_be_opened_says_why_and_keeps_its_password(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_engine(url)
    assert "secret" not in str(caught.value)

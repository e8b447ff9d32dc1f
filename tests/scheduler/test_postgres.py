"""What PostgreSQL alone can do wrong: it counts letters, refuses zero bytes, goes away, and lets two in at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import services
from loads.scheduler import tables
from loads.scheduler.cluster import Cluster
from loads.scheduler.database import StoreError, migrate, open_engine
from loads.scheduler.reader import Reader
from loads.scheduler.store import Store
from sqlalchemy import create_engine, inspect, text

from loads_queue import codec
from loads_queue.messages import JOBS, REPORTS, Hello, Job, Report
from tests.scheduler.test_service import PLAN, Rig, job


@pytest.fixture
def url(postgres: services.Postgres) -> Iterator[str]:
    with postgres.database() as found:
        yield found


def with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_the_driver_need_not_be_named_but_may_be(url: str) -> None:
    for each in (url, with_driver(url), url.replace("postgresql://", "postgres://")):
        engine = open_engine(each)
        assert engine.driver == "psycopg" and engine.url.password in url
        engine.dispose()


def test_migrations_and_tables_say_the_same(url: str, postgres: services.Postgres) -> None:
    shapes = []
    with postgres.database() as other:
        migrated, made = create_engine(with_driver(other)), open_engine(url)
        with migrated.begin() as connection:
            migrate(connection)
            assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == tables.HEAD
        for engine in (migrated, made):
            look = inspect(engine)
            shapes.append(
                {
                    table: (
                        sorted((each["name"], str(each["type"]), each["nullable"]) for each in look.get_columns(table)),
                        look.get_pk_constraint(table)["constrained_columns"],
                        sorted((each["name"], tuple(each["column_names"])) for each in look.get_indexes(table)),
                        sorted(tuple(each["column_names"]) for each in look.get_unique_constraints(table)),
                    )
                    for table in look.get_table_names()
                }
            )
            engine.dispose()
    assert shapes[0] == shapes[1] and len(shapes[0]) > 10


def test_many_open_an_empty_database_at_once(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = [found.result() for found in [pool.submit(Store, url) for _ in range(8)]]
    for store in stores:
        store.close()


def test_one_of_many_takes_a_new_epoch(url: str) -> None:
    stores = [Store(url) for _ in range(6)]
    gate = threading.Barrier(len(stores))

    def take(number: int) -> int | None:
        gate.wait()
        return stores[number].take_epoch(f"holder-{number}", 10**18)

    with ThreadPoolExecutor(len(stores)) as pool:
        found = list(pool.map(take, range(len(stores))))
    assert sorted(found, key=str) == [1, None, None, None, None, None]
    for store in stores:
        store.close()


def test_a_server_that_was_restarted_is_used_again(url: str, postgres: services.Postgres) -> None:
    rig = Rig(url)
    rig.arrive(JOBS, job("before"))
    rig.turn()
    postgres.kill()
    try:
        with pytest.raises(StoreError, match=r"127\.0\.0\.1") as caught:
            Store(url)
        assert url.split(":")[2].partition("@")[0] not in str(caught.value)
        receipt = rig.arrive(JOBS, job("during"))
        rig.turn()
        assert receipt not in rig.broker.acked
    finally:
        postgres.start()
        postgres.wait_ready()
    rig.turn()
    again = rig.arrive(JOBS, job("during"))
    rig.turn()
    assert again in rig.broker.acked and {"before", "during"} <= set(rig.service.cluster.runs)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": "long" * 100}, "Job: id: not a name of up to 190"),
        ({"id": "zero\0id"}, "Job: id: not a name"),
        ({"project": "zero\0byte"}, "Job: project: has a zero byte"),
        ({"owner": "zero\0byte"}, "Job: owner: has a zero byte"),
        ({"plan_ref": "zero\0byte"}, "Job: plan_ref: has a zero byte"),
        ({"priority": 1 << 40}, "Job: priority: beyond 32 bits"),
        ({"workers": -(1 << 40)}, "Job: workers: beyond 32 bits"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_job_that_it_cannot_hold_is_put_aside(url: str, changes: dict[str, object], reason: str) -> None:
    rig = Rig(url)
    value = Job(**{"id": "poison", "plan": PLAN, **changes})  # type: ignore[arg-type]
    rig.arrive(JOBS, codec.encode(value, JOBS, 1))
    rig.arrive(JOBS, job("good"))
    rig.turn()
    assert len(rig.broker.acked) == 2
    assert len(rig.dead()) == 1 and rig.dead()[0].startswith(reason)
    assert Reader(url).run_view("good") is not None
    order = {"job": {"id": "poison", "plan": PLAN, **changes}}
    if "\0" not in str(changes):
        Reader(url).order("", "submit", order, "ann")
        rig.turn()
        assert rig.store.orders() == [] and list(rig.service.cluster.runs) == ["good"]


def test_a_report_that_it_cannot_hold_is_put_aside_and_is_no_outage(url: str) -> None:
    rig = Rig(url)
    body = codec.encode(Report("x", "name" * 100, "life", 1, 0, 0, 1, 1, 1, hello=Hello("1", "h", 1)), REPORTS, 1)
    rig.arrive(REPORTS, body)
    rig.arrive(JOBS, job("good"))
    for _ in range(12):
        rig.turn()
    assert len(rig.broker.acked) == 2
    assert len(rig.dead()) == 1 and "failed 5 times" in rig.dead()[0] and "too long" in rig.dead()[0]
    assert Reader(url).run_view("good") is not None


def test_zero_bytes_inside_documents_and_output_are_kept(url: str) -> None:
    rig = Rig(url)
    rig.arrive(JOBS, codec.encode(Job("r1", plan=PLAN, env={"A": "zero\0byte"}), JOBS, 1))
    rig.turn()
    loaded = Cluster(epoch=1)
    rig.store.load(loaded)
    assert loaded.runs["r1"].env == {"A": "zero\0byte"}


def test_a_zero_byte_in_what_cannot_be_read_is_kept_as_a_dead_letter(url: str) -> None:
    rig = Rig(url)
    rig.arrive(REPORTS, '{"zero":"\0"}')
    rig.turn()
    assert len(rig.dead()) == 1 and len(rig.broker.acked) == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://ann:secret@127.0.0.1:1/loads", "refused"),
        ("postgresql://ann:secret@127.0.0.1:port/loads", "port"),
        ("postgresql+nothing://ann:secret@127.0.0.1:1/loads", "postgresql"),
    ],
)
def test_why_it_cannot_be_opened_is_said_without_the_password(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        open_engine(url)
    assert "secret" not in str(caught.value)

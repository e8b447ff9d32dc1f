"""The embedded broker's messages, in virtual time: visibility, receipts, delay, redrive, retention, survival."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loads_queue.embedded_store import NotInFlight, QueueRecord, Store, UnknownReceipt


class Clock:
    """Milliseconds, moved by hand."""

    now = 1_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of ``store``."""
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    """A store in a new file."""
    return Store(tmp_path / "broker.sqlite3", clock)


def send(store: Store, queue: QueueRecord, *bodies: str, delay_s: int = 0) -> None:
    """Send these."""
    store.send(queue, [(body, delay_s) for body in bodies])


def take(store: Store, queue: QueueRecord, limit: int = 10, visibility_s: int = 30) -> list[str]:
    """The bodies of a receive."""
    return [message.body for message in store.receive(queue, limit, visibility_s, None).messages]


def test_messages_come_in_order_and_are_hidden_for_their_visibility_timeout(store: Store, clock: Clock) -> None:
    queue = store.create_queue("a", {})
    send(store, queue, *"abc")
    assert take(store, queue, 2) == ["a", "b"]
    assert take(store, queue, 2) == ["c"]
    clock.now += 29_999
    assert take(store, queue) == []
    clock.now += 1
    assert take(store, queue) == ["a", "b", "c"]


def test_receives_are_counted_and_the_first_is_remembered(store: Store, clock: Clock) -> None:
    queue = store.create_queue("a", {})
    send(store, queue, "x")
    first_at = clock.now
    for count in (1, 2, 3):
        (message,) = store.receive(queue, 1, 1, None).messages
        assert (message.receives, message.first, message.sent) == (count, first_at, first_at)
        clock.now += 1000


def test_a_delayed_message_waits(store: Store, clock: Clock) -> None:
    queue = store.create_queue("a", {})
    send(store, queue, "late", delay_s=5)
    assert store.next_visible(queue) == clock.now + 5000
    assert (store.counts(queue).visible, store.counts(queue).delayed) == (0, 1)
    clock.now += 5000
    assert take(store, queue) == ["late"]
    assert store.counts(queue).in_flight == 1


def test_a_receipt_is_good_until_the_message_is_received_again(store: Store, clock: Clock) -> None:
    queue = store.create_queue("a", {})
    send(store, queue, "x")
    (old,) = store.receive(queue, 1, 1, None).messages
    clock.now += 1000
    (new,) = store.receive(queue, 1, 30, None).messages
    assert store.delete(queue, [old.receipt]) == [True]
    with pytest.raises(NotInFlight):
        store.change_visibility(queue, old.receipt, 0)
    assert store.counts(queue).in_flight == 1
    assert store.delete(queue, [new.receipt]) == [True]
    assert store.counts(queue).in_flight == 0


@pytest.mark.parametrize(
    "receipt", ["", "1", "x-0123456789abcdef", "1-short", "²-0123456789abcdef", "9" * 30 + "-" + "0" * 16]
)
def test_a_receipt_that_was_never_given_is_told_apart(store: Store, receipt: str) -> None:
    queue = store.create_queue("a", {})
    assert store.delete(queue, [receipt]) == [False]
    with pytest.raises(UnknownReceipt):
        store.change_visibility(queue, receipt, 0)


def test_a_loan_is_extended_from_now_and_ended_at_once(store: Store, clock: Clock) -> None:
    queue = store.create_queue("a", {})
    send(store, queue, "x")
    (message,) = store.receive(queue, 1, 10, None).messages
    clock.now += 9_000
    store.change_visibility(queue, message.receipt, 10)
    clock.now += 9_999
    assert take(store, queue) == []
    store.change_visibility(queue, message.receipt, 0)
    assert take(store, queue) == ["x"]


def test_a_message_received_too_often_goes_to_the_dead_letter_queue(store: Store, clock: Clock) -> None:
    queue, dead = store.create_queue("a", {}), store.create_queue("dead", {})
    send(store, queue, "poison", "poison too")
    for _ in range(2):
        assert len(store.receive(queue, 10, 1, (dead, 2)).messages) == 2
        clock.now += 1000
    send(store, queue, "sound")
    taken = store.receive(queue, 1, 1, (dead, 2))
    assert [message.body for message in taken.messages] == ["sound"]
    assert taken.moved_to == {dead.number}
    assert take(store, dead) == ["poison", "poison too"]


def test_old_messages_go_and_so_do_those_of_a_deleted_queue(store: Store, clock: Clock) -> None:
    queue, other = store.create_queue("a", {}), store.create_queue("b", {})
    send(store, queue, "x")
    send(store, other, "y")
    clock.now += 61_000
    send(store, queue, "new")
    assert store.expire(lambda record: 60 if record is queue else 600) == 1
    assert take(store, queue) == ["new"]
    store.delete_queue(other)
    again = store.create_queue("b", {})
    assert take(store, again) == []


def test_everything_is_in_the_file_when_a_call_returns(tmp_path: Path, clock: Clock) -> None:
    first = Store(tmp_path / "f", clock)
    queue = first.create_queue("a", {"VisibilityTimeout": "7"})
    first.set_setting("secret", "s")
    send(first, queue, "kept", "lent")
    (lent,) = first.receive(queue, 1, 10, None).messages
    second = Store(tmp_path / "f", clock)  # the first one was not closed, as after a SIGKILL
    found = second.queue("a")
    assert found is not None
    assert (found.attributes, second.setting("secret"), second.setting("none")) == (
        {"VisibilityTimeout": "7"},
        "s",
        None,
    )
    assert take(second, found) == ["lent"]
    assert second.delete(found, [lent.receipt]) == [True]
    clock.now += 60_000
    assert take(second, found) == ["lent"]
    assert (tmp_path / "f").stat().st_mode & 0o077 == 0


@given(st.lists(st.sampled_from(["send", "receive", "ack", "back", "wait"]), max_size=40), st.integers(1, 3))
def test_no_message_is_lost_or_lent_twice_at_once(
    tmp_path_factory: pytest.TempPathFactory, events: list[str], n: int
) -> None:
    clock = Clock()
    store = Store(tmp_path_factory.mktemp("law") / "f", clock)
    queue = store.create_queue("a", {})
    alive: set[str] = set()
    lent: dict[str, tuple[str, int]] = {}
    for number, event in enumerate(events):
        lent = {body: loan for body, loan in lent.items() if loan[1] > clock.now}
        if event == "send":
            send(store, queue, str(number))
            alive.add(str(number))
        elif event == "receive":
            for message in store.receive(queue, n, 5, None).messages:
                assert message.body in alive and message.body not in lent
                lent[message.body] = (message.receipt, clock.now + 5000)
        elif event == "wait":
            clock.now += 2000
        elif lent:
            body, (receipt, _) = lent.popitem()
            if event == "ack":
                store.delete(queue, [receipt])
                alive.discard(body)
            else:
                store.change_visibility(queue, receipt, 0)
    clock.now += 5000
    assert set(take(store, queue, 100)) == alive
    store.close()

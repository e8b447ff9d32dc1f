"""Run by the contract suite as a process of its own: gevent, patched first, and several greenlets on one queue."""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from gevent.queue import Queue as Channel  # noqa: E402

from loads_queue.queue import connect  # noqa: E402

url, prefix = sys.argv[1:]
queue = connect(url, prefix=prefix)
queue.declare("reports", 3)  # moto lends messages to pollers that are gone: there they come when the loan is over
queue.declare("control.a", 60)
result = {}

# one greenlet receives, another acknowledges while the first waits, a third sends
arrived: Channel = Channel()
consumer = queue.consume("reports", 4)


def receive() -> None:
    while True:
        for delivery in consumer.receive(5):
            arrived.put(delivery)


receiver = gevent.spawn(receive)
gevent.sleep(0.3)
stalls = []


def watch() -> None:
    while True:
        began = time.monotonic()
        gevent.sleep(0.01)
        stalls.append(time.monotonic() - began - 0.01)


watcher = gevent.spawn(watch)
result["sent"] = 60
sender = gevent.spawn(lambda: [queue.send("reports", [json.dumps({"n": n})]) for n in range(60)])
bodies = set()
while len(bodies) < 60:
    delivery = arrived.get(timeout=20)
    bodies.add(delivery.body)
    consumer.ack([delivery])
result["received"] = len(bodies)
sender.get()
watcher.kill()
result["worst_stall_s"] = max(stalls)

# a poll ends with its greenlet, and what comes then is for the next reader
receiver.kill()
consumer.close()
queue.send("reports", ["{}"])
second = queue.consume("reports", 1)
found = second.receive(10)
result["after_kill"] = len(found)
second.ack(found)

# a prefetch that is lowered while a poll waits: what the poll brings too much goes back
third = queue.consume("control.a", 2)
waiting = gevent.spawn(third.receive, 1)
gevent.sleep(0.3)
third.set_prefetch(0)
queue.send("control.a", ["{}"])
assert waiting.get() == [], "taken though the prefetch was 0"
fourth = queue.consume("control.a", 1)
back = fourth.receive(10)
result["surplus"] = len(back)
fourth.ack(back)
queue.close()
sys.stdout.write(json.dumps(result))

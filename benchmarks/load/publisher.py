"""A process that records events, by the orders on its standard input. See benchmarks.servers.Publisher."""

import json
import sys
import time

import django

django.setup()

from benchmarks.load.marks import data  # noqa: E402
from benchmarks.sections.rows import lifelike_event  # noqa: E402
from events.log import record  # noqa: E402


def publish(first: int, count: int, filler_bytes: int, pause_seconds: float, lifelike: bool) -> list[int]:
    returned = []
    for number in range(first, first + count):
        if lifelike:
            type, instance, said = lifelike_event(number)
            record(type, instance=instance, data=said)
        else:
            record("bench.mark", data=data(number, filler_bytes))
        returned.append(time.monotonic_ns())
        if pause_seconds:
            time.sleep(pause_seconds)
    return returned


for line in sys.stdin:
    print(json.dumps(publish(*json.loads(line))), flush=True)

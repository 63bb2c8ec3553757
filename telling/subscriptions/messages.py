"""What is delivered: an event of the log, or the news that the log was pruned or replaced."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.urls import reverse

from events import event_types
from events.invisible import escape_invisible
from events.models import EventLog
from lifecycle.clock import as_text

LOG_RESET = "dormouse.log.reset"
TEST = "dormouse.test"
#: The member of an event's data that holds output of the agent.
OUTPUT = "log_tail"
TAG_CHARACTERS = 16


@dataclass(frozen=True)
class Message:
    """One thing to deliver. `at` and `data` are as on the stream."""

    id: str
    type: str
    instance: str
    at: str
    data: dict[str, Any]
    #: For a person.
    sentence: str
    is_failure: bool = False
    #: The id of the event that a link leads to. None: there is none.
    event_id: int | None = None

    def as_cloud_event(self) -> bytes:
        """Return the message as JSON. Source: CloudEvents 1.0, JSON event format."""
        subject = {"subject": self.instance} if self.instance else {}
        envelope = {"specversion": "1.0", "id": self.id, "source": settings.DORMOUSE_PUBLIC_URL, "type": self.type}
        rest = {"time": self.at, "datacontenttype": "application/json", "data": self.data}
        return json.dumps(envelope | subject | rest, ensure_ascii=False).encode()

    def as_text(self) -> str:
        """Return the lines below the sentence: the output that the data hold, and the link."""
        output = escape_invisible(str(self.data.get(OUTPUT) or ""))
        path = reverse("agents") if self.event_id is None else reverse("event", args=[self.event_id])
        return f"{output}\n\n{settings.DORMOUSE_PUBLIC_URL}{path}".strip()


def of_event(row: EventLog, *, output: bool) -> Message:
    """Return the message of an event, with the output of the agent only if `output`."""
    payload = row.payload()
    return Message(
        id=f"{row.id}-{tag_of(row.type, payload)}",
        type=row.type,
        instance=row.instance,
        at=payload["at"],
        data=payload if output else {key: value for key, value in payload.items() if key != OUTPUT},
        sentence=escape_invisible(event_types.sentence_of(row)),
        is_failure=event_types.is_failure(row),
        event_id=row.id,
    )


def of_pruned(cursor: int, floor: int, now: datetime) -> Message:
    """Return the message that events after `cursor`, up to `floor`, were pruned before they were delivered."""
    data = {"reason": "pruned", "requested": cursor, "cursor": floor}
    sentence = f"The event log was pruned: events after {cursor}, up to {floor}, cannot be delivered"
    return _of_reset(floor, data, sentence, as_text(now))


def of_restored(row: EventLog) -> Message:
    """Return the message that an older copy took the log's place. `row` is the event that says which ids are gone."""
    first, last = row.data.get("from"), row.data.get("to")
    data = {"reason": "restored", "from": first, "to": last, "cursor": row.id}
    sentence = f"An older copy took the event log's place: the ids {first} to {last} are given to no other event"
    return _of_reset(row.id, data, sentence, row.payload()["at"])


def of_test(name: str, tag: str, now: datetime) -> Message:
    """Return a message that tests the subscription `name`. `tag` tells two tests apart."""
    sentence = f"Test of the subscription {name}"
    return Message(f"0-{tag}", TEST, "", as_text(now), {"subscription": name, "at": as_text(now)}, sentence)


def tag_of(type: str, data: dict[str, Any]) -> str:
    """Return a hash of the event. After a restore the same number is another event, and its tag differs."""
    text = json.dumps([type, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:TAG_CHARACTERS]


def _of_reset(id: int, data: dict[str, Any], sentence: str, at: str) -> Message:
    return Message(f"{id}-{tag_of(LOG_RESET, data)}", LOG_RESET, "", at, data | {"at": at}, sentence, is_failure=True)

import pytest

from events.stream.ring import EVERYTHING, MAX_SHARED_CHUNKS, Entry, EventFilter, Ring


def entries(*ids, type="a.b", instance="x"):
    return [Entry(id, type, instance, b"%4d" % id) for id in ids]


def filled(*ids, max_bytes=1000, head=0):
    ring = Ring(head, max_bytes)
    ring.append(entries(*ids))
    return ring


def test_a_reader_gets_what_follows_its_cursor():
    chunk = filled(1, 2, 3).take(1, EVERYTHING, 1000)
    assert (chunk.body, chunk.cursor) == (b"   2   3", 3)


def test_ids_need_not_be_consecutive():
    assert filled(11, 15, 20, head=10).take(12, EVERYTHING, 1000).body == b"  15  20"


@pytest.mark.parametrize("cursor", [3, 4])
def test_there_is_nothing_after_the_head(cursor):
    chunk = filled(1, 2, 3).take(cursor, EVERYTHING, 1000)
    assert (chunk.body, chunk.cursor) == (b"", cursor)


def test_a_chunk_has_a_bound_and_names_the_last_event_in_it():
    ring = filled(1, 2, 3)
    assert ring.take(0, EVERYTHING, 8).body == b"   1   2"
    assert ring.take(0, EVERYTHING, 11).cursor == 2


def test_a_chunk_has_at_least_one_event():
    assert filled(1, 2).take(0, EVERYTHING, 0).body == b"   1"


def test_readers_at_the_same_place_share_the_same_bytes():
    ring = filled(1, 2, 3)
    shared = ring.take(1, EVERYTHING, 1000)
    assert ring.take(1, EVERYTHING, 1000) is shared
    ring.append(entries(4))
    assert ring.take(1, EVERYTHING, 1000).body == b"   2   3   4"


def test_the_oldest_go_when_there_are_too_many_bytes():
    ring = filled(1, 2, 3, max_bytes=8)
    assert (ring.start, ring.head) == (1, 3)
    assert ring.take(1, EVERYTHING, 1000).body == b"   2   3"


def test_an_event_larger_than_the_ring_leaves_it_empty():
    ring = filled(1, 2, max_bytes=3)
    assert (ring.start, ring.head) == (2, 2)


@pytest.mark.parametrize(
    ("about", "body"),
    [
        (EventFilter(types=frozenset({"a.b"})), b"   1   4"),
        (EventFilter(instances=frozenset({"y"})), b"   3   4"),
        (EventFilter(frozenset({"y"}), frozenset({"a.b"})), b"   4"),
        (EventFilter(frozenset({"x", "y"})), b"   1   2   3   4"),
        (EventFilter(frozenset({"z"})), b""),
    ],
)
def test_a_filtered_reader_moves_past_what_it_does_not_see(about, body):
    ring = filled(1)
    ring.append(entries(2, type="c.d"))
    ring.append(entries(3, type="c.d", instance="y"))
    ring.append(entries(4, instance="y"))
    ring.append(entries(5, type="e.f", instance="w"))
    chunk = ring.take(0, about, 1000)
    assert (chunk.body, chunk.cursor) == (body, 5)


def test_what_readers_share_is_not_kept_for_ever():
    ring = Ring(0, 1_000_000)
    ring.append([Entry(id, "a.b", "", b"x") for id in range(1, 501)])
    for cursor in range(500):
        ring.take(cursor, EVERYTHING, 1000)
    assert len(ring._shared_chunks) <= MAX_SHARED_CHUNKS


@pytest.mark.parametrize(
    ("wanted", "matching"),
    [("container.*", ["container.a", "container.b.c"]), ("container.a", ["container.a"]), ("*", []), ("a.*", [])],
)
def test_a_type_with_a_wildcard_stands_for_all_that_begin_so(wanted, matching):
    ring = Ring(0, 1000)
    types = ["container.a", "container.b.c", "Container.a", "container", "containers.a"]
    ring.append([Entry(id, type, "x", type.encode() + b" ") for id, type in enumerate(types, 1)])
    assert ring.take(0, EventFilter(types=frozenset({wanted})), 1000).body.decode().split() == matching

"""Garbage and memory of a web process. docs/decisions/0077-garbage-collection.md has the measurements."""

import ctypes
import gc
import resource
import threading
from pathlib import Path
from time import process_time, sleep

#: The numbers of `gc.set_threshold`: so many more new objects than freed ones until the youngest are collected, so many
#: of these collections until the next generation is, and so many of those until all objects are.
THRESHOLDS = (10_000, 10, 10)

#: A process that used less of a processor than this for so long is calm.
CALM_SECONDS, CALM_PROCESSORS = 3.0, 0.05
#: The second number is how many pages of memory the process has. Source: proc(5).
PAGES = Path("/proc/self/statm")
#: Memory is given back if the process has grown by this much since the last time.
GROWN_BYTES = 4 * 1024 * 1024


def tune_garbage_collection() -> None:
    """Leave what was made at the start out of all collections, and collect the rest less often.

    Call it when the process is about to serve. Else a full collection looks at 120,000 objects that live as long as the
    process, and everybody waits for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def give_memory_back_when_calm() -> None:
    """Begin a thread that collects all garbage after a rush, and gives free memory back to the system.

    Do nothing if the system does not tell how much memory a process has.
    """
    if PAGES.exists():
        threading.Thread(target=_watch, name="memory", daemon=True).start()


def give_memory_back() -> None:
    """Collect all garbage. With glibc, also give back the memory that is free in the middle of its heaps."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _watch() -> None:
    least = _memory_bytes()
    while True:
        before = process_time()
        sleep(CALM_SECONDS)
        used = (process_time() - before) / CALM_SECONDS
        if used < CALM_PROCESSORS and _memory_bytes() > least + GROWN_BYTES:
            give_memory_back()
            least = _memory_bytes()


def _memory_bytes() -> int:
    return int(PAGES.read_text().split()[1]) * resource.getpagesize()

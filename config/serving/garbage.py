"""Garbage collection in a web process. docs/decisions/0077-garbage-collection.md has the measurements."""

import gc

#: The numbers of `gc.set_threshold`: so many more new objects than freed ones until the youngest are collected, so many
#: of these collections until the next generation is, and so many of those until all objects are.
THRESHOLDS = (10_000, 10, 10)


def tune_garbage_collection() -> None:
    """Leave what was made at the start out of all collections, and collect the rest less often.

    Call it when the process is about to serve. Else a full collection looks at 120,000 objects that live as long as the
    process, and everybody waits for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)

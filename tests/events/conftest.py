import threading
from collections.abc import Iterator

import pytest

from tests.servers import wait_for


@pytest.fixture(autouse=True)
def no_tail_outlives_its_readers() -> Iterator[None]:
    yield
    wait_for(lambda: not any(thread.name.startswith("events-") for thread in threading.enumerate()))

"""The reconciler of a lifecycle that the tests hold in their hands."""

import pytest

from lifecycle.supervision.reconciler import Reconciler


@pytest.fixture
def reconciler(lifecycle):
    return Reconciler(lifecycle)

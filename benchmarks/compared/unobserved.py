"""Dormouse without metrics: `config.asgi`, in which no receiver counts dispatches."""

from config.asgi import application
from lifecycle.signals import dispatched
from telling.metrics.process import note_dispatch

__all__ = ["application"]

assert dispatched.disconnect(note_dispatch, dispatch_uid="telling.metrics")

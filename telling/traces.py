"""Traces of dispatches with OpenTelemetry, if OTEL_EXPORTER_OTLP_ENDPOINT is set."""

import logging
import os

from django.conf import settings

from lifecycle import tracing

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
#: How long the last spans may take to leave at the end of the process.
FLUSH_MS = 2000


def install() -> None:
    """Begin to trace, if an endpoint is set and the packages of `requirements-otel.txt` are there.

    Source of the variables: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if is_disabled or not any(os.environ.get(name) for name in ENDPOINTS):
        return
    about: dict[str, str | int] = {"service.version": settings.DORMOUSE_VERSION}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = "dormouse"
    try:
        from telling.otel import OpenTelemetry
    except ImportError as error:
        logger.warning(
            "There are no traces, although %s is set: %s. Install requirements-otel.txt.", ENDPOINTS[0], error
        )
    else:
        tracing.tracer = OpenTelemetry(about)
        logger.info("Traces of dispatches are sent to the collector that %s names", ENDPOINTS[0])


def shut_down() -> None:
    """Send the last spans. This waits for FLUSH_MS at most."""
    if tracing.tracer is not None:
        tracing.tracer.flush(FLUSH_MS)

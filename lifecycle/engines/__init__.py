"""The engine that DORMOUSE_ENGINE names."""

from pathlib import Path

from django.conf import settings

from lifecycle.engines.base import Engine


def engine_from_settings() -> Engine:
    if settings.DORMOUSE_ENGINE == "docker":
        from lifecycle.engines.docker import DockerEngine

        return DockerEngine()
    from lifecycle.engines.process import ProcessEngine

    agents_file = settings.DORMOUSE_AGENTS_FILE
    return ProcessEngine(Path(agents_file) if agents_file else None, run_dir=settings.DORMOUSE_RUN_DIR)

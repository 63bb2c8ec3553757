"""The engines that run instances, and the choice of one by the setting DORMOUSE_ENGINE."""

from pathlib import Path

from django.conf import settings

from lifecycle.engines.base import Engine

#: By engine: how an instance takes part.
HOW_TO_TAKE_PART = {
    "docker": "A container takes part with the label dormouse.enable=true.",
    "swarm": "A service takes part with the label dormouse.enable=true (under deploy in a stack file).",
    "process": "A process takes part with a table of its name in the agents file.",
}


def engine_from_settings() -> Engine:
    """Return the engine that the settings name. Only its module is imported."""
    if settings.DORMOUSE_ENGINE == "docker":
        from lifecycle.engines.docker.addresses import own_id
        from lifecycle.engines.docker.engine import DockerEngine

        return DockerEngine(own_id=own_id(), scope=settings.DORMOUSE_SCOPE, network=settings.DORMOUSE_NETWORK)
    if settings.DORMOUSE_ENGINE == "swarm":
        from lifecycle.engines.docker.addresses import own_id
        from lifecycle.engines.swarm.engine import SwarmEngine

        return SwarmEngine(
            settings.DORMOUSE_SWARM_MANAGERS,
            own_id=own_id(),
            scope=settings.DORMOUSE_SCOPE,
            network=settings.DORMOUSE_NETWORK,
        )
    from lifecycle.engines.process.engine import ProcessEngine

    agents_file = settings.DORMOUSE_AGENTS_FILE
    return ProcessEngine(Path(agents_file) if agents_file else None, run_dir=settings.DORMOUSE_RUN_DIR)

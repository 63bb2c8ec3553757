"""What the retry loops share."""

import logging
from collections.abc import Callable

from tenacity import RetryCallState


def log_failed_try(logger: logging.Logger, message: str, *arguments: object) -> Callable[[RetryCallState], None]:
    """Return a `before_sleep` for tenacity that logs a warning: `message`, whose last `%s` is the error of the try."""

    def log(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning(message, *arguments, error)

    return log

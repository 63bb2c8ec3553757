"""Translating the errors of the docker SDK to the errors of an engine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from docker.errors import DockerException

from lifecycle.engines.docker.answers import Answer
from lifecycle.exceptions import EngineError, EngineNonsense, EngineUnreachable


@dataclass(frozen=True)
class Translation:
    """The words of one kind of engine for what goes wrong between Dormouse and it."""

    #: Who answers, for "... gave an answer that".
    speaker: str
    #: The same, for "the connection to ... failed".
    other_end: str
    #: Returns what an answer means that did not do what was asked, of a call and the name of an instance.
    error_of: Callable[[str, str, Answer], EngineError]
    #: Returns what one error in the chain of causes means. None: it says nothing.
    explain: Callable[[BaseException], EngineUnreachable | None]

    @contextmanager
    def errors(self, call: str, name: str) -> Iterator[None]:
        """Raise the EngineError that an error inside the block means."""
        try:
            yield
        except requests.HTTPError as error:
            raise self.error_of(call, name, Answer.of(error.response)) from error
        except (DockerException, requests.RequestException, OSError) as error:
            raise self._unreachable(error) from error
        # null, {}, [], [{}], and JSON that is nested too deeply
        except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
            why = f"{self.speaker} gave an answer that has another shape than its API says ({error!r})"
            raise EngineNonsense(why) from error

    def _unreachable(self, error: BaseException) -> EngineError:
        """Return the operating system's reason, which is deep in the chain of causes."""
        reason: BaseException | None = error
        while reason:
            # to the question for its version, with which a connection begins
            if isinstance(reason, requests.HTTPError):
                return self.error_of("version", "", Answer.of(reason.response))
            explained = self.explain(reason)
            if explained:
                return explained
            reason = reason.__cause__ or reason.__context__
        return EngineUnreachable(f"the connection to {self.other_end} failed: {error}")

"""What the Docker Engine's answers mean. The table in docs/docker-engine.md is held against this module.

A status alone says little: a 404 to `start` may be about the container, its image or its network, and a 403 comes from
a filter in front of the engine. So the message decides, and the status only if there is none to read.

Source: Docker Engine API 1.41 to 1.47, the messages of the engine's source, and what was seen of Docker Engine 20.10.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import requests

from lifecycle.exceptions import (
    Cause,
    EngineBusy,
    EngineError,
    EngineNonsense,
    EngineRefused,
    EngineUnreachable,
    Missing,
    StartRejected,
)

#: The API version that was agreed on at the first connection does not fit any more: the engine was replaced.
OTHER_VERSION = re.compile(r"client( API)? version .* is too (old|new)", re.IGNORECASE)
NO_SUCH_CONTAINER = re.compile(r"no such container", re.IGNORECASE)
OTHER_SLEEPS = re.compile(r"cannot join .* of a non running container", re.IGNORECASE)
NO_SUCH_IMAGE = re.compile(r"no such image", re.IGNORECASE)
NO_SUCH_NETWORK = re.compile(r"network \S+ not found", re.IGNORECASE)
BEING_REMOVED = re.compile(r"marked for removal|removal of container .* in progress|is being removed", re.IGNORECASE)
PORT_TAKEN = re.compile(r"address already in use|port is already allocated", re.IGNORECASE)
#: By call: what the engine says if there was nothing to do, and its status does not say so.
ALREADY_SO = {"pause": re.compile(r"is already paused"), "unpause": re.compile(r"is not paused")}
#: Podman refuses to make a volume if another caller makes it at the same moment. Docker answers with that one.
VOLUME_EXISTS = re.compile(r"volume already exists")
#: Podman refuses to stop a paused container. It says so before it does anything.
STOPS_NONE_THAT_IS_PAUSED = re.compile(r"is running or paused, refusing to clean up")
#: The engine gave up on a part of itself, or is going down. The call may still take effect.
BROKEN_INSIDE = re.compile(
    r"context (deadline exceeded|canceled)|transport is closing|ttrpc: closed|error while dialing|shutting down",
    re.IGNORECASE,
)
#: What the engine writes before and after the reason in its messages.
WRAPPING = re.compile(
    r"driver failed .*? \([0-9a-f]+\): |(failed to create|OCI runtime|runc:) .*?(?=exec: )|: unknown$"
    r"|: OCI (runtime attempted to invoke a command that was not found|permission denied)$"
)
#: Podman writes no exit code, but the end of its message says the same.
PODMAN_EXIT_CODES = {
    126: re.compile(r": OCI permission denied$"),
    127: re.compile(r": OCI runtime attempted to invoke a command that was not found$"),
}
#: By exit code of a rejected start: what it means, and what to do about it.
EXIT_CODES = {
    126: ("its command may not be executed", "make it executable in the image"),
    127: ("its command does not exist", "correct the command, or the image"),
}
FROM_A_FILTER = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED, 407)
FROM_A_PROXY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
MAX_FOREIGN_CHARACTERS = 200


@dataclass(frozen=True)
class Answer:
    """An answer that did not do what was asked. `message` is the engine's, or empty if the body is not the engine's."""

    status: int
    message: str = ""
    #: What another program than the engine wrote, in one line. Empty: nothing, or HTML.
    foreign: str = ""

    @classmethod
    def of(cls, response: requests.Response) -> "Answer":
        """Read an answer. The engine's own errors are JSON objects with a message."""
        try:
            message = response.json()["message"]
        except (ValueError, KeyError, TypeError):
            text = " ".join(response.text.split())
            return cls(response.status_code, foreign="" if "<" in text else text[:MAX_FOREIGN_CHARACTERS])
        return cls(response.status_code, str(message))


def is_already_so(call: str, answer: Answer) -> bool:
    """Return whether the answer says that there was nothing to do."""
    already = ALREADY_SO.get(call)
    return answer.status == HTTPStatus.NOT_MODIFIED or bool(already and already.search(answer.message))


def error_of(call: str, name: str, answer: Answer) -> EngineError:
    """Return what the answer to `call` means.

    `call` is "list", "inspect", "start", "stop", "pause", "unpause", "logs", "events" or "version".

    A Missing that this returns for "start" may be about another container, whose network it shares: ask again.
    """
    if not answer.message:
        return _of_a_stranger(call, answer)
    if NO_SUCH_CONTAINER.search(answer.message) and answer.status == HTTPStatus.NOT_FOUND:
        return Missing(name, answer.message)
    if BEING_REMOVED.search(answer.message) or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return EngineBusy(f"the Docker Engine refused for now: {answer.message}")
    if answer.status in FROM_A_PROXY or (answer.status >= 500 and BROKEN_INSIDE.search(answer.message)):
        return EngineUnreachable(f"the Docker Engine answered: {answer.message}")
    return (
        _rejection(name, answer) if call == "start" else EngineRefused(f"the Docker Engine refused: {answer.message}")
    )


def unwrapped(message: str) -> str:
    """Return the reason in a message of the engine, without the names of the parts of the engine that passed it on."""
    return WRAPPING.sub("", message)


def exit_code_of(rejection: StartRejected, state: Mapping[str, Any]) -> int | None:
    """Return the exit code of a command that could not be run. None: the rejection is about something else.

    `state` is the container's. It keeps the codes of earlier runs too, so its error must be the one that is rejected.
    """
    if rejection.exit_code is not None:
        return rejection.exit_code
    is_of_this_start = state["Error"] and unwrapped(state["Error"]) in rejection.error
    return state["ExitCode"] if is_of_this_start and state["ExitCode"] in EXIT_CODES else None


def is_paused(name: str) -> StartRejected:
    """Return the rejection of a start of a paused container."""
    return StartRejected(f"it is paused; resume it with: docker unpause {name}")


def other_is_gone(shared: str, message: str) -> StartRejected:
    """Return the rejection of a start of a container that shares something with another one, which is gone."""
    return StartRejected(f"a container whose {shared} it shares is gone: {message}; make this one anew")


def explain_exit(rejection: StartRejected, code: int | None) -> StartRejected:
    """Add to a rejection what its exit code means, and what to do about it."""
    if code not in EXIT_CODES:
        return StartRejected(rejection.error, rejection.cause, code)
    why, remedy = EXIT_CODES[code]
    return StartRejected(f"{why}: {rejection.error}; {remedy}", rejection.cause, code)


def _of_a_stranger(call: str, answer: Answer) -> EngineError:
    """Return what an answer means that the engine did not write."""
    said = f": {answer.foreign}" if answer.foreign else ""
    if answer.status in FROM_A_FILTER:
        return _refused(call, f"refused with {answer.status}, probably by a filter in front of the engine{said}")
    if answer.status in FROM_A_PROXY:
        return EngineUnreachable(f"a proxy answered {answer.status} for the Docker Engine{said}")
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return EngineBusy(f"refused for now with {answer.status}{said}")
    return EngineNonsense(f"the answer {answer.status} to {call} is not the Docker Engine's{said}")


def _refused(call: str, error: str) -> EngineRefused:
    words = f"{call} was {error}; docs/docker-engine.md lists what must be allowed"
    return StartRejected(words) if call == "start" else EngineRefused(words)


def _rejection(name: str, answer: Answer) -> StartRejected:
    """Return why the engine refused to start the container, and what to do about it."""
    message = unwrapped(answer.message)
    if PORT_TAKEN.search(message):
        remedy = "stop what holds it, or publish another"
        return StartRejected(f"a port that it publishes is taken: {message}; {remedy}", Cause.PORT_CONFLICT)
    if NO_SUCH_IMAGE.search(message):
        return StartRejected(f"its image is gone: {message}; pull or build it again", Cause.IMAGE_MISSING)
    if NO_SUCH_NETWORK.search(message):
        return StartRejected(f"{message}: connect it to a network that exists, or make the container anew")
    if NO_SUCH_CONTAINER.search(message) and not message.endswith(f": {name}"):
        return other_is_gone("namespace", message)
    if OTHER_SLEEPS.search(message):
        return StartRejected(f"{message}: start that one first, or name it in the label dormouse.needs")
    if answer.status == HTTPStatus.CONFLICT and "paused" in message:
        return is_paused(name)
    codes = (code for code, end in PODMAN_EXIT_CODES.items() if end.search(answer.message))
    return StartRejected(message, exit_code=next(codes, None))

"""The managers of a swarm: one of them is asked, and the next one if it is gone."""

import os
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import docker
import requests

from lifecycle.engines.deadlines import answers_within
from lifecycle.engines.docker import answers as docker_answers
from lifecycle.engines.docker.answers import OTHER_VERSION, Answer
from lifecycle.engines.docker.translation import Translation
from lifecycle.exceptions import (
    EngineBusy,
    EngineError,
    EngineLeaderless,
    EngineNonsense,
    EngineRefused,
    EngineUnreachable,
    Missing,
)

T = TypeVar("T")

#: The timeout of a request. No call to a manager waits for a container. If the leader has died, the others say so after
#: 20 s.
ASK_SECONDS = 22
#: How long a connection may take: a manager that is cut off must not use the time of the next one up.
CONNECT_SECONDS = 3

NO_SERVICE = re.compile(r"(service|config|task) .* not found|no such (service|config|task)", re.IGNORECASE)
ALREADY_THERE = re.compile(r"name conflicts with an existing object|already exists", re.IGNORECASE)
OUT_OF_SEQUENCE = re.compile(r"update out of sequence", re.IGNORECASE)
NO_MANAGER = re.compile(r"not a swarm manager|not part of a swarm|This node is not", re.IGNORECASE)
NO_LEADER = re.compile(r"does not have a leader|no elected (primary|leader)|lost quorum", re.IGNORECASE)
SILENT_LEADER = re.compile(r"DeadlineExceeded|context deadline exceeded", re.IGNORECASE)
#: What a manager says that was the leader when it was asked, and is cut off or shut down before the others agree.
LOST_LEAD = re.compile(r"node lost leader status|raft: .*node is stopped|raft: stopped", re.IGNORECASE)


class AlreadyThere(EngineRefused):
    """The swarm has an object of that name."""


class Managers:
    """Connections to the managers at `hosts`, which are written as DOCKER_HOST is. Any thread may call it."""

    def __init__(self, hosts: tuple[str, ...], environment: Mapping[str, str] = os.environ) -> None:
        """Set up. Without `hosts`, the one that `environment` names is asked, by default the local engine."""
        self._hosts = hosts or (environment.get("DOCKER_HOST", ""),)
        self._environment = dict(environment)
        self._lock = threading.Lock()
        #: Connected clients, by host.
        self._clients: dict[str, Any] = {}
        #: The host that answered last. It is asked first.
        self._latest = self._hosts[0]

    def ask(self, call: str, name: str, do: Callable[[Any], T]) -> T:
        """Return what `do` makes of the client of the first manager that answers. `name` is for errors.

        `do` may be called again with another client, although the first manager may have done what it asked. So what
        changes something names the version that it changes. Raises EngineError.
        """
        first = self._latest
        troubles: list[EngineUnreachable] = []
        for host in [first, *(one for one in self._hosts if one != first)]:
            try:
                found = self._ask_one(host, call, name, do)
            except (EngineBusy, EngineNonsense):
                raise
            except EngineUnreachable as error:
                self._forget(host)
                troubles.append(error)
            else:
                self._latest = host
                return found
        raise _together(troubles)

    def close(self) -> None:
        """Close the connections."""
        for host in list(self._clients):
            self._forget(host)

    def _ask_one(self, host: str, call: str, name: str, do: Callable[[Any], T]) -> T:
        """Ask once, and once more if the engine was replaced by one with another API version."""
        try:
            return self._call(host, call, name, do)
        except EngineRefused as refusal:
            if not OTHER_VERSION.search(refusal.error):
                raise
        self._forget(host)
        return self._call(host, call, name, do)

    def _call(self, host: str, call: str, name: str, do: Callable[[Any], T]) -> T:
        with TRANSLATION.errors(call, name), answers_within(ASK_SECONDS):
            return do(self._client(host))

    def _client(self, host: str) -> Any:
        with self._lock:
            kept = self._clients.get(host)
        if kept is not None:
            return kept
        environment = self._environment | ({"DOCKER_HOST": host} if host else {})
        client = docker.from_env(timeout=ASK_SECONDS, max_pool_size=50, environment=environment)
        with self._lock:
            first = self._clients.setdefault(host, client.api)
        if first is not client.api:
            client.close()
        return first

    def _forget(self, host: str) -> None:
        with self._lock:
            client = self._clients.pop(host, None)
        if client is not None:
            with suppress(Exception):
                client.close()


def get(api: Any, path: str, **parameters: Any) -> Any:
    """Return the JSON that a manager answers to a question. Raises requests.HTTPError."""
    return _send(api, "GET", path, parameters).json()


def get_bytes(api: Any, path: str, **parameters: Any) -> bytes:
    """Return the bytes that a manager answers to a question. Raises requests.HTTPError."""
    content: bytes = _send(api, "GET", path, parameters).content
    return content


def post(api: Any, path: str, body: Any, **parameters: Any) -> None:
    """Make a call that changes something. Raises requests.HTTPError."""
    _send(api, "POST", path, parameters, json=body)


def delete(api: Any, path: str) -> None:
    """Remove what is at a path. Raises requests.HTTPError."""
    _send(api, "DELETE", path, {})


def _send(api: Any, method: str, path: str, parameters: Mapping[str, Any], **options: Any) -> requests.Response:
    url = f"{api.base_url}/v{api.api_version}/{path}"
    response: requests.Response = api.request(
        method, url, params=parameters, timeout=(CONNECT_SECONDS, ASK_SECONDS), allow_redirects=False, **options
    )
    if not requests.codes.ok <= response.status_code < requests.codes.multiple_choices:
        raise requests.HTTPError(response=response)
    return response


def error_of(call: str, name: str, answer: Answer) -> EngineError:
    """Return what an answer of a manager means that did not do what was asked."""
    if ALREADY_THERE.search(answer.message):
        return AlreadyThere(answer.message)
    if OUT_OF_SEQUENCE.search(answer.message):
        return EngineBusy("the service was changed by others at the same moment")
    if NO_LEADER.search(answer.message):
        why = "the swarm has no leader, because more than half of its managers are gone (the quorum is lost)"
        return EngineLeaderless(f"{why}: bring managers back; agents that run still answer", was_asked=False)
    if SILENT_LEADER.search(answer.message):
        why = "the swarm's leader does not answer the other managers, which may elect another one in a moment"
        return EngineLeaderless(f"{why}; agents that run still answer")
    if LOST_LEAD.search(answer.message):
        why = "the swarm's leader has lost the lead, and the managers elect another one in a moment"
        return EngineLeaderless(f"{why}; agents that run still answer")
    if NO_MANAGER.search(answer.message):
        return EngineUnreachable("it is no manager of a swarm: name managers, or promote it", was_asked=False)
    if answer.status == 404 and NO_SERVICE.search(answer.message):
        remedy = "create the service again under this name, with the label dormouse.enable=true"
        return Missing(name, answer.message, remedy)
    return docker_answers.error_of(call, name, answer)


def _explain(reason: BaseException) -> EngineUnreachable | None:
    """Return what an error in the chain of causes means, in words that a person can act on."""
    if isinstance(reason, (requests.ConnectTimeout, ConnectionRefusedError, FileNotFoundError)):
        why = "it cannot be reached: does it run, and is its address right?"
        return EngineUnreachable(why, was_asked=False)
    if isinstance(reason, (requests.Timeout, TimeoutError)):
        return EngineUnreachable("it does not answer in time")
    if isinstance(reason, PermissionError):
        return EngineUnreachable("its socket is closed to this user: add it to the group docker", was_asked=False)
    return None


TRANSLATION = Translation("the manager", "it", error_of, _explain)


def _together(troubles: list[EngineUnreachable]) -> EngineUnreachable:
    """Return one error about managers none of which did what was asked."""
    was_asked = any(one.was_asked for one in troubles)
    for one in troubles:
        if isinstance(one, EngineLeaderless):  # that is why, whatever has become of the other managers
            return EngineLeaderless(one.error, was_asked)
    words = list(dict.fromkeys(one.error for one in troubles))
    if len(troubles) == 1:
        return EngineUnreachable(f"the swarm's manager did not answer: {words[0]}", was_asked)
    return EngineUnreachable(f"none of the swarm's {len(troubles)} managers answered: {'; '.join(words)}", was_asked)

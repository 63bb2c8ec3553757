"""Docker Engine, through the low-level API of the docker SDK: one call is one request.

`answers` says what its errors mean, `containers` reads what it says of a container.
"""

import logging
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast

import docker
import requests
from docker.errors import NotFound

from lifecycle.engines import labels
from lifecycle.engines.base import OWNER, Engine, HeardEnd, Inspection, ListedInstance, Outcome, Phase
from lifecycle.engines.deadlines import answers_within
from lifecycle.engines.docker import containers
from lifecycle.engines.docker.answers import (
    OTHER_VERSION,
    STOPS_NONE_THAT_IS_PAUSED,
    VOLUME_EXISTS,
    Answer,
    error_of,
    exit_code_of,
    explain_exit,
    is_already_so,
    is_paused,
    other_is_gone,
)
from lifecycle.engines.docker.events import HeardEvents
from lifecycle.engines.docker.translation import Translation
from lifecycle.engines.docker.viewpoints import Viewpoints
from lifecycle.exceptions import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnreachable,
    Missing,
    StartRejected,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The timeout of a question. An inspection waits while a start hangs, and is then asked again.
ASK_SECONDS = 10
#: The timeout of a start, and of a stop in addition to its grace.
ACT_SECONDS = 60

#: The engine's events after which an instance may have changed. Podman's own names are the last ones.
CHANGES = (
    "create",
    "start",
    "kill",
    "die",
    "pause",
    "unpause",
    "rename",
    "destroy",
    "update",
    "stop",
    "died",
    "remove",
)
#: The names that Docker allows.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class DockerEngine(Engine):
    """The Docker Engine that DOCKER_HOST and related variables in `environment` name, by default the local one."""

    name = "docker"
    keeps_mark = True

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        own_id: str | None = None,
        scope: str = "",
        network: str = "",
    ) -> None:
        """Set up the engine, for the containers of `scope`. `own_id` is the container in which Dormouse itself runs.

        `network` is the one on which containers are reached that are on it and have no label `dormouse.network`.
        """
        self._scope = scope
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._heard = HeardEvents()
        #: Connected clients, by their timeout in seconds.
        self._clients: dict[int, Any] = {}
        self._viewpoints = Viewpoints(own_id, network)

    def instances(self) -> list[ListedInstance]:
        """Return all containers of the scope with the label, by one request."""
        filters = {"label": labels.ENABLE}

        def ask(api: Any) -> list[ListedInstance]:
            return containers.read_list(api.containers(all=True, filters=filters), self._scope)

        return self._call("list", "", ask)

    def near_misses(self) -> list[str]:
        """Return what is said of all containers of the engine. No filter of the engine finds a misspelt label."""
        return self._call("list", "", lambda api: containers.near_misses(api.containers(all=True), self._scope))

    def inspect(self, name: str) -> Inspection:
        """Return what one request says of the container."""
        if not NAME.fullmatch(name) or len(name) > containers.MAX_NAME:
            raise Missing(name)

        def ask(api: Any) -> Inspection:
            container = api.inspect_container(name)
            if not containers.takes_part(name, container, self._scope):
                raise Missing(name)
            return containers.inspection(name, container, self._viewpoints.of(api), _shared(api, container))

        return self._call("inspect", name, ask)

    def start(self, name: str) -> Outcome:
        """Start the container. If it runs already, the engine answers 304 and this does nothing."""
        try:
            return self._call("start", name, lambda api: _post(api, f"{name}/start"), ACT_SECONDS)
        except StartRejected as rejection:
            raise self._explain(name, rejection) from rejection
        except Missing as error:
            self.inspect(name)  # raises Missing if it is this container that is gone
            if error.words.endswith(f": {name}"):
                raise EngineBusy("another container has just got the name of one that is gone") from error
            raise other_is_gone("network", error.words) from error

    def stop(self, name: str, grace_seconds: float) -> Outcome:
        """Stop the container. If another client is stopping it, the engine waits for that."""
        grace = math.ceil(grace_seconds)

        def ask() -> Outcome:
            return self._call("stop", name, lambda api: _post(api, f"{name}/stop", grace, t=grace), ACT_SECONDS)

        try:
            return ask()
        except EngineRefused as refusal:
            if not STOPS_NONE_THAT_IS_PAUSED.search(refusal.error):
                raise
        self.resume(name)
        return ask()

    def pause(self, name: str) -> Outcome:
        """Freeze the container's processes."""
        return self._call("pause", name, lambda api: _post(api, f"{name}/pause"), ACT_SECONDS)

    def resume(self, name: str) -> Outcome:
        """Let the container's processes go on."""
        return self._call("unpause", name, lambda api: _post(api, f"{name}/unpause"), ACT_SECONDS)

    def output(self, name: str, lines: int, mark: str = "") -> str:
        """Return the last lines of the latest run. `mark` is when the run before it ended."""
        # StartedAt is not used if a mark is given: the engine sets it after the command has begun, and the whole output
        # of a command that fails at once is older (19 of 20 times).
        if not lines:
            return ""

        def ask(api: Any) -> str:
            since = containers.output_since(api.inspect_container(name)["State"], mark)
            after = {} if since is None else {"since": since}
            return cast(bytes, api.logs(name, tail=lines, **after)).decode(errors="replace")

        return self._call("logs", name, ask)

    def watch_changes(self) -> Iterator[str]:
        """Yield names from the engine's event stream, which is open when this returns."""
        # Not with the label: Podman 4.3 knows only a label with its value in this filter, and tells nothing.
        filters = {"type": "container", "event": list(CHANGES)}
        since = self._heard.since  # else a stream that opens in the middle of a stop would miss its `kill`
        return self._read_names(
            self._call("events", "", lambda api: api.events(decode=True, filters=filters, since=since))
        )

    def heard_end(self, incarnation: str) -> HeardEnd | None:
        """Return what the events that `watch_changes` has read said of the end."""
        return self._heard.end_of(incarnation)

    def mark(self, ours: Mapping[str, str], kind: str = OWNER) -> Mapping[str, str]:
        """Return the labels of a volume. Making one that exists changes nothing."""
        found = self.find_mark(kind)
        if found is not None:
            return found
        made = {**ours, f"{labels.PREFIX}scope": self._scope}
        try:
            self._call("mark", "", lambda api: api.create_volume(self._mark_name(kind), labels=made))
        except EngineRefused as refusal:
            if not VOLUME_EXISTS.search(refusal.error):
                raise
        # The answer to that may lack the labels: Docker 20.10 forgets to tell them after its restart.
        found = self.find_mark(kind)
        if found is None:
            raise EngineBusy("the mark was removed as soon as it was made")
        return found

    def find_mark(self, kind: str = OWNER) -> Mapping[str, str] | None:
        """Return the labels of the volume, or None if there is none."""

        def ask(api: Any) -> Mapping[str, str] | None:
            with suppress(NotFound):
                return api.inspect_volume(self._mark_name(kind))["Labels"] or {}
            return None

        return self._call("find mark", "", ask)

    def remove_mark(self, kind: str = OWNER) -> None:
        """Remove the volume. Do nothing if there is none."""

        def ask(api: Any) -> None:
            with suppress(NotFound):
                api.remove_volume(self._mark_name(kind))

        self._call("remove mark", "", ask)

    def _mark_name(self, kind: str) -> str:
        name = f"dormouse-{kind}"
        return f"{name}.{self._scope}" if self._scope else name

    def _read_names(self, stream: Any) -> Iterator[str]:
        with TRANSLATION.errors("events", ""):
            for event in stream:
                attributes = event["Actor"]["Attributes"]
                if labels.ENABLE not in attributes:
                    continue
                self._heard.hear(event)
                if event["Action"] == "stop":  # a `die` comes with it
                    continue
                yield attributes["name"]
                if "oldName" in attributes:
                    yield attributes["oldName"].removeprefix("/")

    def _explain(self, name: str, rejection: StartRejected) -> StartRejected:
        """Add to a rejection what the container's state says of it."""
        try:
            state = self._call("inspect", name, lambda api: api.inspect_container(name)["State"])
        except EngineError:
            return rejection
        if state["Status"] == Phase.PAUSED:
            return is_paused(name)
        return explain_exit(rejection, exit_code_of(rejection, state))

    def _call(self, call: str, name: str, do: Callable[[Any], T], seconds: int = ASK_SECONDS) -> T:
        """Return what `do` makes of a client whose requests take at most `seconds` as a whole. Raises EngineError.

        If the engine was replaced by one with another API version, agree on a version again, and call once more.
        """
        for is_last in (False, True):
            with TRANSLATION.errors(call, name), answers_within(seconds):
                api = self._client(seconds)
                try:
                    return do(api)
                except requests.HTTPError as error:
                    if is_last or not OTHER_VERSION.search(Answer.of(error.response).message):
                        raise
                    self._forget(api)
        raise AssertionError("the last call returns or raises")

    def _client(self, seconds: int) -> Any:
        """Return the connected client for calls of at most `seconds`."""
        if seconds not in self._clients:  # without the lock: else threads would wait in turn for a hanging engine
            client = docker.from_env(timeout=seconds, max_pool_size=50, environment=self._environment)
            if client.api.base_url.startswith("http+docker:"):  # a socket, to which no proxy of the environment leads:
                client.api.trust_env = False  # looking for one costs a tenth of a call
            with self._lock:
                is_first = self._clients.setdefault(seconds, client.api) is client.api
            if not is_first:
                client.close()
        return self._clients[seconds]

    def _forget(self, api: Any) -> None:
        """Make the next call connect anew, because what was learned at the connection does not fit any more."""
        with self._lock:
            self._clients = {seconds: one for seconds, one in self._clients.items() if one is not api}
        api.close()


def _shared(api: Any, container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the container whose network this one uses, or None if it has its own, or that one is gone."""
    shared = containers.shared_container(container)
    try:
        return cast(Mapping[str, Any], api.inspect_container(shared)) if shared else None
    except NotFound:
        return None


def _post(api: Any, path: str, more_seconds: int = 0, **parameters: Any) -> Outcome:
    """Make a call that changes something. The SDK's own methods hide the difference between 204 and 304."""
    seconds = api.timeout + more_seconds
    url = f"{api.base_url}/v{api.api_version}/containers/{path}"
    with answers_within(seconds):
        response = api.post(url, params=parameters, timeout=seconds, allow_redirects=False)
    if is_already_so(path.rpartition("/")[2], Answer.of(response)):
        return Outcome.ALREADY_SO
    if response.status_code != requests.codes.no_content:  # 200 is a page of another program, such as a login
        raise requests.HTTPError(response=response)
    return Outcome.DONE


def _explain(reason: BaseException) -> EngineUnreachable | None:
    """Return what an error in the chain of causes means, in words that a person can act on."""
    if isinstance(reason, (requests.Timeout, TimeoutError)):
        return EngineUnreachable("the Docker Engine does not answer in time")
    if isinstance(reason, PermissionError):
        why = "the Docker Engine's socket is closed to this user: add it to the group docker"
        return EngineUnreachable(why, was_asked=False)
    if isinstance(reason, (ConnectionRefusedError, FileNotFoundError)):
        why = f"the Docker Engine cannot be reached ({reason.strerror}): does it run, and is DOCKER_HOST right?"
        return EngineUnreachable(why, was_asked=False)
    return None


TRANSLATION = Translation("the Docker Engine", "the Docker Engine", error_of, _explain)

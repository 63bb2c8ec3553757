"""The mark of the installation that manages the services of a scope: a config of the swarm, with labels."""

import base64
from collections.abc import Mapping
from contextlib import suppress

from lifecycle.engines import labels
from lifecycle.engines.swarm.managers import AlreadyThere, Managers, delete, get, post
from lifecycle.exceptions import EngineBusy, Missing


class Mark:
    """The marks of one scope. A swarm makes a config once, however many ask for it at the same time."""

    def __init__(self, managers: Managers, scope: str) -> None:
        self._managers = managers
        self._scope = scope

    def make(self, ours: Mapping[str, str], kind: str) -> Mapping[str, str]:
        """Return the labels of the mark, which has the labels `ours` if there was none."""
        found = self.find(kind)
        if found is None:
            made = {**ours, f"{labels.PREFIX}scope": self._scope}
            content = base64.b64encode(b"Dormouse keeps the labels of this config.").decode()
            body = {"Name": self._name(kind), "Labels": made, "Data": content}
            with suppress(AlreadyThere):  # another installation was faster
                self._managers.ask("mark", "", lambda api: post(api, "configs/create", body))
            found = self.find(kind)
        if found is None:
            raise EngineBusy("the mark was removed as soon as it was made")
        return found

    def find(self, kind: str) -> Mapping[str, str] | None:
        """Return the labels of the mark, or None if there is none."""
        try:
            found = self._managers.ask("find mark", "", lambda api: get(api, f"configs/{self._name(kind)}"))
        except Missing:
            return None
        labels_read: Mapping[str, str] = found["Spec"].get("Labels") or {}
        return labels_read

    def remove(self, kind: str) -> None:
        """Remove the mark. Do nothing if there is none."""
        try:
            self._managers.ask("remove mark", "", lambda api: delete(api, f"configs/{self._name(kind)}"))
        except Missing:
            return

    def _name(self, kind: str) -> str:
        name = f"dormouse-{kind}"
        return f"{name}.{self._scope}" if self._scope else name

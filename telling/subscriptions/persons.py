"""Deliveries to a person: Apprise sends the sentence and a link by mail, chat or push."""

import re
import threading
from typing import Any

from django.conf import settings

from telling.subscriptions.addresses import AddressRefused, check_host
from telling.subscriptions.failures import DeliveryFailed
from telling.subscriptions.messages import Message

#: Services at addresses of their own.
SERVICES = ("discord", "opsgenie", "pagerduty", "pover", "slack", "tgram", "zulip")
#: What a team runs itself, at a host that the URL names.
HOSTED = ("gotify", "gotifys", "mailto", "mailtos", "mmost", "mmosts", "ntfy", "ntfys", "rocket", "rockets")
#: Generic HTTP and local ones, which need DORMOUSE_WEBHOOK_PRIVATE.
PRIVATE = ("form", "forms", "json", "jsons", "signal", "signals", "syslog", "xml", "xmls")

#: Chats in which a text can call people: `@everyone`, `<@U12>`, `<!channel>`, `@**all**`.
CHATS = ("discord", "mmost", "mmosts", "rocket", "rockets", "slack", "tgram", "zulip")
MENTION = re.compile(r"@|<(?=!)")
ZERO_WIDTH_SPACE = "\u200b"
#: Whose paths may be secrets: who knows the topic of an ntfy reads it.
SECRET_PATHS = ("form", "forms", "json", "jsons", "ntfy", "ntfys", "xml", "xmls")

#: By attribute of Apprise's object: the option of the URL that makes Apprise read a local file or ask another address.
READING = {"template": "template", "pgp_key": "pgppub", "pgp_privkey": "pgpprv", "use_wkd": "wkd"}

#: For a message as a whole. Mail servers may take half a minute for their greeting.
DELIVERY_SECONDS = 60.0
#: For a connection, and for each wait for a part of an answer.
MAX_SILENCE_SECONDS = 30.0
#: A shorter part of a URL is not taken for a secret.
MIN_SECRET_CHARACTERS = 6


def check(url: str, scheme: str) -> str:
    """Return how the URL is shown, without its credentials. Raises ValueError."""
    if scheme not in SERVICES + HOSTED + PRIVATE:
        known = ", ".join(SERVICES + HOSTED)
        raise ValueError(f"the scheme must be https for a program, or for a person one of: {known}")
    if scheme in PRIVATE and not settings.DORMOUSE_WEBHOOK_PRIVATE:
        raise ValueError(f"{scheme}:// is only for private networks: it needs DORMOUSE_WEBHOOK_PRIVATE=true")
    plugin = _make_plugin(url)
    if plugin is None:
        raise ValueError(f"the URL cannot be read: see https://appriseit.com/services/ for what {scheme}:// needs")
    reading = [option for attribute, option in READING.items() if getattr(plugin, attribute, None)]
    if reading:
        raise ValueError(f"the option {reading[0]} cannot be used: it reads files or asks other addresses")
    shown = str(plugin.url(privacy=True)).partition("?")[0]
    if scheme not in SECRET_PATHS:
        return shown
    scheme, _, rest = shown.partition("://")
    return f"{scheme}://***" if _names_a_topic(plugin) else f"{scheme}://{rest.partition('/')[0]}/***"


def _names_a_topic(plugin: Any) -> bool:
    """Return whether the URL names a topic at ntfy.sh in the place of a host: `ntfy://TOPIC`."""
    return getattr(plugin, "mode", "") == "cloud"


def quiet(text: str) -> str:
    """Return the text with an invisible character after each mark that would call people in a chat."""
    return MENTION.sub(lambda found: found[0] + ZERO_WIDTH_SPACE, text)


class PersonSender:
    """Sends messages by one Apprise URL."""

    def __init__(self, url: str, seconds: float = DELIVERY_SECONDS) -> None:
        self._url, self._seconds = url, seconds
        self._plugin = _make_plugin(url)
        scheme = url.partition("://")[0].lower()
        self._host = _find_host(scheme, self._plugin)
        self._is_chat = scheme in CHATS

    def send(self, message: Message) -> None:
        """Deliver the message. Raises DeliveryFailed."""
        if self._plugin is None:
            raise DeliveryFailed("Apprise cannot read its URL")
        self._check_host()
        title, body = message.sentence, message.as_text()
        if self._is_chat:  # agents write what is in there
            title, body = quiet(title), quiet(body)
        attempt = _Attempt(self._plugin, title, body, "failure" if message.is_failure else "info")
        attempt.start()
        attempt.join(self._seconds)
        if attempt.is_alive():
            self._plugin = _make_plugin(self._url)  # the thread that hangs keeps the other one
            raise DeliveryFailed(f"it did not end within {self._seconds:g} s")
        if not attempt.is_sent:
            raise DeliveryFailed(self._hide_secrets(attempt.reason))

    def close(self) -> None:
        """Do nothing: Apprise keeps no connections."""

    def _check_host(self) -> None:
        """Raise DeliveryFailed if the host is at an address that no delivery may go to.

        Apprise resolves the name again when it connects. So this guards against mistakes, and not against a name server
        that gives another answer a moment later.
        """
        if self._host:
            try:
                check_host(self._host)
            except AddressRefused as error:
                raise DeliveryFailed(str(error)) from None
            except OSError as error:
                raise DeliveryFailed(f"{self._host} cannot be found: {error.strerror}") from None

    def _hide_secrets(self, reason: str) -> str:
        """Return the reason without any part of the URL that may be a secret."""
        rest = self._url.partition("://")[2]
        for mark in "/:@?&=#":
            rest = rest.replace(mark, " ")
        host = "" if _names_a_topic(self._plugin) else getattr(self._plugin, "host", "")
        for part in rest.split():
            if len(part) >= MIN_SECRET_CHARACTERS and part != host:
                reason = reason.replace(part, "***")
        return reason


class _Attempt(threading.Thread):
    """One delivery by Apprise, in a thread that may hang: it has time limits for parts only."""

    def __init__(self, plugin: Any, title: str, body: str, kind: str) -> None:
        super().__init__(name="apprise", daemon=True)
        self._plugin = plugin
        self._told: dict[str, Any] = {"title": title, "body": body, "notify_type": kind, "body_format": "text"}
        self.is_sent = False
        self.reason = "Apprise gave no reason"

    def run(self) -> None:
        """Notify, and keep the reason if that fails."""
        import apprise

        notifier = apprise.Apprise(asset=self._plugin.asset)
        notifier.add(self._plugin)
        try:
            result = notifier.notify(**self._told)
        except Exception as error:
            self.reason = f"Apprise failed ({type(error).__name__})"
            return
        self.is_sent = bool(result)
        for entry in result.logs():
            self.reason = entry.message


def _find_host(scheme: str, plugin: Any) -> str:
    """Return the host that the URL names; empty if the service has an address of its own."""
    if scheme == "zulip" and plugin is not None:  # an organization with a dot is a host
        return f"{plugin.organization}.{plugin.hostname}"
    if scheme not in HOSTED or _names_a_topic(plugin):
        return ""
    return getattr(plugin, "smtp_host", "") or getattr(plugin, "host", "")


def _make_plugin(url: str) -> Any:
    """Return Apprise's object for a URL, or None if Apprise cannot read the URL.

    Imported late, because that takes half a second, which no other command should pay.
    """
    import apprise

    # Without a limit of its own, because Apprise would share six threads among all messages, and some may hang.
    asset = apprise.AppriseAsset(app_id="Dormouse", app_desc="Dormouse", async_mode=False, service_timeout=0)
    plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if plugin is not None:
        # The URL may set these, too. A text that is too long is sent in parts, because it would be refused for ever.
        plugin.redirects, plugin.retry = False, 0
        plugin.socket_read_timeout = min(plugin.socket_read_timeout, MAX_SILENCE_SECONDS)
        plugin.socket_connect_timeout = min(plugin.socket_connect_timeout, MAX_SILENCE_SECONDS)
        plugin.overflow_mode = apprise.OverflowMode.SPLIT
    return plugin

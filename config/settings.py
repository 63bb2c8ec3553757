"""Django's settings, read from the environment. README.md has a table of them."""

import ipaddress
import os
import re
import secrets
from argparse import ArgumentTypeError
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from environs import FileAwareEnv

import config
from access.ages import parse_age
from access.files import private_files
from access.files.secret_files import SecretFileError, read_or_create_secret
from config.logs import drop_traceback_of_host, has_traceback, log_what_python_prints, say_address

BASE_DIR = Path(__file__).resolve().parent.parent
env = FileAwareEnv(strip_whitespace=True)

VAR_DIR = env.path("DORMOUSE_VAR_DIR", BASE_DIR / "var")
# Before anything is written, by whichever command is first.
private_files.set_private_umask()
try:
    private_files.make_private_folder(VAR_DIR)
except OSError as error:
    raise ImproperlyConfigured(
        f"DORMOUSE_VAR_DIR={VAR_DIR} cannot be used ({error.strerror}: {error.filename}): "
        "it must be a folder that you can write to."
    ) from None

LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]

DEBUG = env.bool("DJANGO_DEBUG", False)
HTTPS = env.bool("DJANGO_HTTPS", False)
ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", LOOPBACK)
IS_ONLY_ON_LOOPBACK = set(ALLOWED_HOSTS) <= set(LOOPBACK)
CSRF_FAILURE_VIEW = "agents_ui.views.csrf_failure"
CSRF_TRUSTED_ORIGINS: list[str] = env.list("DJANGO_CSRF_TRUSTED_ORIGINS", [])


def secret_key() -> str:
    """Return the setting, or a generated key if Dormouse is reached only from this machine and without TLS."""
    key: str = env.str("DJANGO_SECRET_KEY", "")
    if key:
        return key
    if HTTPS or not IS_ONLY_ON_LOOPBACK:
        raise ImproperlyConfigured(
            "DJANGO_SECRET_KEY (or DJANGO_SECRET_KEY_FILE) must be set: "
            "a generated key is only for loopback and plain HTTP. "
            'Make one with: python -c "import secrets; print(secrets.token_urlsafe(50))"'
        )
    try:
        return read_or_create_secret(VAR_DIR / "secret-key", lambda: secrets.token_urlsafe(50))
    except SecretFileError as error:
        raise ImproperlyConfigured(str(error)) from None


SECRET_KEY = secret_key()
#: Keys that were SECRET_KEY before: sessions and subscriptions of them go on.
SECRET_KEY_FALLBACKS: list[str] = env.list("DJANGO_SECRET_KEY_FALLBACKS", [])

if DEBUG and not IS_ONLY_ON_LOOPBACK:
    raise ImproperlyConfigured(
        "DJANGO_DEBUG=true shows code and data to every visitor, so it is only for loopback: "
        "unset it, or unset DJANGO_ALLOWED_HOSTS."
    )
#: Hides settings whose names hold these words on the pages of the debug mode.
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.debug.ReporterFilter"

DORMOUSE_VERSION = config.__version__
#: Where everything is served below, without a slash at its end: "/dormouse", or an empty text.
DORMOUSE_BASE_PATH: str = env.str("DORMOUSE_BASE_PATH", "").rstrip("/")
DORMOUSE_ENGINE = env.str("DORMOUSE_ENGINE", "docker")
#: The managers of a swarm, written as DOCKER_HOST is. Empty: the one that DOCKER_HOST names.
DORMOUSE_SWARM_MANAGERS = tuple(filter(None, map(str.strip, env.str("DORMOUSE_SWARM_MANAGERS", "").split(","))))
DORMOUSE_NETWORK = env.str("DORMOUSE_NETWORK", "")
DORMOUSE_AGENTS_FILE = env.str("DORMOUSE_AGENTS_FILE", "")
DORMOUSE_RUN_DIR = env.path("DORMOUSE_RUN_DIR", VAR_DIR / "run")
DORMOUSE_SUPERVISOR = env.str("DORMOUSE_SUPERVISOR", "embedded")
#: What serves HTTP, started by `python -m config.serve`.
DORMOUSE_SERVER = env.str("DORMOUSE_SERVER", "daphne")
DORMOUSE_API_TOKEN = env.str("DORMOUSE_API_TOKEN", "")
DORMOUSE_LOG_FORMAT = env.str("DORMOUSE_LOG_FORMAT", "text")
DORMOUSE_LOG_LEVEL = env.str("DORMOUSE_LOG_LEVEL", "INFO").upper()
#: Whether a line of the log tells of each request.
DORMOUSE_ACCESS_LOG: bool = env.bool("DORMOUSE_ACCESS_LOG", True)
DORMOUSE_TRUSTED_PROXIES: list[str] = env.list("DORMOUSE_TRUSTED_PROXIES", [])
try:
    #: How long events are kept, or None: for ever.
    DORMOUSE_KEEP = parse_age(keep) if (keep := env.str("DORMOUSE_KEEP", "")) else None
except ArgumentTypeError as error:
    raise ImproperlyConfigured(f"DORMOUSE_KEEP: {error}") from None
#: Where people and programs reach Dormouse, with the base path, without a slash at its end: subscriptions tell it.
DORMOUSE_PUBLIC_URL: str = env.str("DORMOUSE_PUBLIC_URL", "").rstrip("/")
#: Whether subscriptions may deliver to loopback and private addresses, and by plain http.
DORMOUSE_WEBHOOK_PRIVATE: bool = env.bool("DORMOUSE_WEBHOOK_PRIVATE", False)
DORMOUSE_MAX_STREAMS = env.int("DORMOUSE_MAX_STREAMS", 5000)
DORMOUSE_MAX_STREAMS_PER_USER = env.int("DORMOUSE_MAX_STREAMS_PER_USER", 50)

#: Which containers belong to this Dormouse: those whose label dormouse.scope is the same.
DORMOUSE_SCOPE: str = env.str("DORMOUSE_SCOPE", "")
if not re.fullmatch(r"[A-Za-z0-9_.-]{0,63}", DORMOUSE_SCOPE):
    raise ImproperlyConfigured(
        f"DORMOUSE_SCOPE is {DORMOUSE_SCOPE!r}; it must have at most 63 letters, digits and . _ -"
    )

if not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._~-]*)*", DORMOUSE_BASE_PATH):
    raise ImproperlyConfigured(
        f"DORMOUSE_BASE_PATH is {DORMOUSE_BASE_PATH!r}; it must be a path that begins with a slash, such as /dormouse, "
        "of letters, digits and . _ ~ -"
    )

if DORMOUSE_PUBLIC_URL and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", DORMOUSE_PUBLIC_URL):
    raise ImproperlyConfigured(
        f"DORMOUSE_PUBLIC_URL is {DORMOUSE_PUBLIC_URL!r}; it must be such as https://dormouse.example.org, "
        "without a query"
    )

try:
    for network in DORMOUSE_TRUSTED_PROXIES:
        ipaddress.ip_network(network)
except ValueError as error:
    raise ImproperlyConfigured(f"DORMOUSE_TRUSTED_PROXIES must name addresses or networks: {error}") from None

for name, value, choices in (
    ("DORMOUSE_ENGINE", DORMOUSE_ENGINE, ("docker", "swarm", "process")),
    ("DORMOUSE_SUPERVISOR", DORMOUSE_SUPERVISOR, ("embedded", "external")),
    ("DORMOUSE_LOG_FORMAT", DORMOUSE_LOG_FORMAT, ("text", "json")),
    ("DORMOUSE_LOG_LEVEL", DORMOUSE_LOG_LEVEL, ("DEBUG", "INFO", "WARNING", "ERROR")),
    ("DORMOUSE_SERVER", DORMOUSE_SERVER, ("daphne", "uvicorn")),
):
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of: {', '.join(choices)}")


#: How long work in flight may go on when the web process is told to end.
DORMOUSE_DRAIN: timedelta = env.timedelta("DORMOUSE_DRAIN", timedelta(seconds=30))

#: A server that disappears without closing its connections is noticed within a minute. With the operating system's
#: defaults that takes a quarter of an hour.
POSTGRESQL_GONE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "tcp_user_timeout": 30_000}


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for the database at `url`, with the options that the event log needs."""
    found: dict[str, Any] = env.dj_db_url("DATABASE_URL", url)
    if found["ENGINE"] == "django.db.backends.sqlite3":
        path = BASE_DIR / found["NAME"]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_files.narrow(path, Path(f"{path}-wal"), Path(f"{path}-shm"))
        found |= {
            "ENGINE": "config.sqlite3",
            "NAME": path,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
            },
            # A file, because tests also use other threads, processes and servers, which see no database in memory.
            "TEST": {"NAME": path.with_name(f"test-{os.getpid()}.sqlite3")},
        }
    elif found["ENGINE"] == "django.db.backends.postgresql":
        # As long as SQLite's timeout. Writers of the log take turns, and none of them may wait for ever.
        found["OPTIONS"] = {"options": "-c lock_timeout=20s", **POSTGRESQL_GONE} | found.get("OPTIONS", {})
    return found


DATABASES = {"default": database(f"sqlite:///{quote(str(VAR_DIR.absolute()))}/db.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "daphne",
    "agents_ui",
    "telling",
    "events",
    "lifecycle",
    "access",
    "axes",
    "csp",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "servestatic",
    "django.contrib.staticfiles",
]

# Each of these can run asynchronously. One that cannot would cost each dispatch a thread while the agent works.
MIDDLEWARE = [
    "telling.health.HealthMiddleware",
    "access.api_problems.ApiProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "config.serving.compression.StaticCompressionMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "access.middleware.TokenMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "access.database.DatabaseErrorMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTHENTICATION_BACKENDS = ["access.identity.logins.LoginBackend"]
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_VERBOSE = False
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # else an attacker could extend the lock for ever
AXES_CLIENT_IP_CALLABLE = "access.identity.logins.client_address"
AXES_USERNAME_CALLABLE = "access.identity.logins.counted_name"
AXES_LOCKOUT_CALLABLE = "access.identity.logins.locked_response"
AXES_ENABLE_ADMIN = False
AXES_DISABLE_ACCESS_LOG = True

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "agents"
LOGOUT_REDIRECT_URL = "login"

TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

#: Forms are the login and the admin. config.serving.daphne refuses larger bodies before they are read.
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

STATIC_URL = f"{DORMOUSE_BASE_PATH}/static/"
SERVESTATIC_STATIC_PREFIX = "/static/"  # below the base path
SERVESTATIC_USE_FINDERS = True  # no collectstatic step
SERVESTATIC_ALLOW_ALL_ORIGINS = False

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_ENGINE = "access.identity.sessions"
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = DORMOUSE_BASE_PATH or "/"
# Another Django application at the same address has cookies of Django's names, and browsers send both.
SESSION_COOKIE_NAME = "sessionid" + DORMOUSE_BASE_PATH.replace("/", "-")
CSRF_COOKIE_NAME = "csrftoken" + DORMOUSE_BASE_PATH.replace("/", "-")
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # the cookie of messages has no path
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31536000 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
# W005 and W021 ask for HSTS with subdomains and preload. That binds every other service on the domain, so it is not for
# Dormouse to decide.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

EVENTSTREAM_STORAGE_CLASS = "events.eventstream.EventLogStorage"
EVENTSTREAM_CHANNELMANAGER_CLASS = "events.eventstream.EventLogChannelManager"

if DORMOUSE_LOG_FORMAT == "json":
    log_what_python_prints()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {
            "()": "config.logs.OneLineFormatter",
            "format": "{asctime} {levelname} {name}{request}: {message}",
            "style": "{",
        },
        "json": {"()": "config.logs.JsonFormatter"},
    },
    "filters": {
        "host": {"()": lambda: drop_traceback_of_host},
        "address": {"()": lambda: say_address},
        "traceback": {"()": lambda: has_traceback},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": DORMOUSE_LOG_FORMAT,
            "filters": ["host"],
            "level": DORMOUSE_LOG_LEVEL,
        },
        "nowhere": {"class": "logging.NullHandler"},
    },
    "root": {"handlers": ["console"], "level": DORMOUSE_LOG_LEVEL},
    # urllib3 would log a line for each question to the engine, and daphne how it listens. The line of a request says
    # what Django would say of its status.
    "loggers": {
        "urllib3": {"level": "INFO"},
        "daphne": {"level": "WARNING"},
        "daphne.server": {"level": "INFO", "filters": ["address"]},
        # telling.subscriptions logs a failure when it begins, without what may be secret in a URL.
        "apprise": {"propagate": False, "handlers": ["nowhere"]},
        "uvicorn": {"level": "ERROR"},  # a warning for each thing that is no request
        "axes": {"level": "ERROR"},  # access.identity.logins logs each failure, with the name quoted
        "django": {"propagate": True, "handlers": [], "level": "INFO"},
        "django.request": {"filters": ["traceback"]},
    },
}

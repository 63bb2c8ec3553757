"""config.settings, in an environment of the suite's own: nothing of the caller's leaks in.

A settings module, because pytest-django imports the settings before it looks at any conftest.py.
"""

import os

KEPT = ("DORMOUSE_TEST_", "DORMOUSE_REQUIRE", "DORMOUSE_LONG")
for name in [name for name in os.environ if name.startswith(("DORMOUSE_", "DJANGO_", "DATABASE_URL"))]:
    if not name.startswith(KEPT):
        del os.environ[name]
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "config.settings",  # of the processes that tests start
    "DORMOUSE_ENGINE": "process",
    "DORMOUSE_SUPERVISOR": "external",
    "DORMOUSE_API_TOKEN": "the-tests-token",
}
if "DORMOUSE_TEST_DATABASE_URL" in os.environ:  # tests/postgres runs a part of the suite anew, on PostgreSQL
    os.environ["DATABASE_URL"] = os.environ["DORMOUSE_TEST_DATABASE_URL"]

from config.settings import *  # noqa: E402, F403

#: A password costs one round of hashing, which the servers that tests start accept, too. It was half of a test's time.
PASSWORD_HASHERS = ["tests.settings.QuickHasher"]


def __getattr__(name):  # the hasher's module needs settings that have been loaded
    if name != "QuickHasher":
        raise AttributeError(name)
    from django.contrib.auth.hashers import PBKDF2PasswordHasher

    return type("QuickHasher", (PBKDF2PasswordHasher,), {"iterations": 1})

"""`python -m config.serve`: the web process, under the server that DORMOUSE_SERVER names."""

import argparse
import logging
import os
from collections.abc import Sequence

from django.conf import settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m config.serve", description=__doc__)
    parser.add_argument("-b", "--bind", default="127.0.0.1", metavar="ADDRESS", help="default: %(default)s")
    parser.add_argument("-p", "--port", default=8000, type=int, help="default: %(default)s")
    options = parser.parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    serve = {"daphne": _serve_with_daphne, "uvicorn": _serve_with_uvicorn}[settings.DORMOUSE_SERVER]
    serve(options.bind, options.port)


def _serve_with_daphne(host: str, port: int) -> None:
    from daphne.cli import CommandLineInterface

    CommandLineInterface().run(["-b", host, "-p", str(port), "config.asgi:application"])


def _serve_with_uvicorn(host: str, port: int) -> None:
    from config import asgi
    from config.logs import listening_at
    from config.serving.uvicorn.server import serve

    def when_serving() -> None:
        logging.getLogger("config.serve").info("%s", listening_at(host, str(port)))
        asgi.when_serving()

    serve(
        asgi.application,
        host,
        port,
        when_serving=when_serving,
        drain=asgi.drain,
        clean_up=asgi.shut_down,
    )


if __name__ == "__main__":
    main()

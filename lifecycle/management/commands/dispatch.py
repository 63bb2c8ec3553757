"""Hand a piece of work to an instance, waking it first if it sleeps, and write its answer to standard output."""

import asyncio
import os
import sys
from argparse import ArgumentParser
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from access.identity.users import signature_of_command
from lifecycle import assembly
from lifecycle.dispatch.body import Body
from lifecycle.dispatch.delivery import Work
from lifecycle.dispatch.dispatcher import Dispatcher
from lifecycle.dispatch.wakes import Wakes
from lifecycle.exceptions import LifecycleError
from lifecycle.orders import Order, Trigger, read_for


class Command(BaseCommand):
    """The command `manage.py dispatch`."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the instance, the work and its content type."""
        parser.add_argument("name", help="the instance, for example reviewer-default")
        parser.add_argument(
            "--data", default="", metavar="TEXT|@FILE|-", help="the work: a text, a file's content, or standard input"
        )
        parser.add_argument(
            "--content-type",
            default="application/octet-stream",
            help="the content type of the work (default %(default)s)",
        )

        parser.add_argument(
            "--for", dest="work_for", default="", metavar="TEXT", help="who or what the work is for; events tell it"
        )

    def handle(self, *args: Any, name: str, data: str, content_type: str, work_for: str, **options: Any) -> None:
        """Dispatch, and exit with an error if the agent answers with one."""
        headers = [("content-type", content_type)]
        order = Order(Trigger.DISPATCH, work_for=read_for(os.fsencode(work_for)), **signature_of_command())
        work = Work(headers, Body.of(_content(data)), order=order)
        lifecycle = assembly.lifecycle("dispatch")
        wakes = Wakes(lifecycle)
        try:
            asyncio.run(_dispatch(Dispatcher(wakes), name, work))
        except LifecycleError as error:
            raise CommandError(str(error)) from error
        finally:
            wakes.shut_down()
            lifecycle.worker.end()


async def _dispatch(dispatcher: Dispatcher, name: str, work: Work) -> None:
    try:
        answer = await dispatcher.dispatch(name, work)
        try:
            async for chunk in answer:
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
        finally:
            answer.close()
    finally:
        await dispatcher.close_connections()
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise CommandError(f"{name} answered {answer.status} {_phrase(answer.status)}".rstrip())


def _phrase(status: int) -> str:
    """Return the phrase of a status, or an empty text if HTTP does not know the status."""
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _content(data: str) -> bytes:
    """Return the work that `--data` names. Raises CommandError for a file that cannot be read."""
    if data == "-":
        return sys.stdin.buffer.read()
    if not data.startswith("@"):
        return data.encode()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise CommandError(f"{data[1:]} cannot be read: {error.strerror}") from error

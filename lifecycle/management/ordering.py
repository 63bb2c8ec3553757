"""What the commands have in common that order something of an instance: wake, sleep, keep_awake, disable, enable."""

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from access.identity.users import signature_of_command
from lifecycle import assembly
from lifecycle.exceptions import LifecycleError


class OrderingCommand(BaseCommand):
    """A command that orders something of one instance, in the name of the system's user who runs it.

    Its `carry_out(control, name, caller, **options)` carries the order out, and returns a sentence about what happened.
    """

    carry_out: Callable[..., str]

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the name of the instance."""
        parser.add_argument("name", help="the instance, for example reviewer-default")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        """Carry the order out, and say what happened. Exit with an error if that was not possible."""
        lifecycle = assembly.lifecycle(self.__module__.rpartition(".")[2])
        try:
            self.stdout.write(self.carry_out(lifecycle.control, name, signature_of_command(), **options))
        except LifecycleError as error:
            raise CommandError(str(error)) from error
        finally:
            lifecycle.worker.end()

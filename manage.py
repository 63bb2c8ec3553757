#!/usr/bin/env python
"""The command line of Dormouse: `manage.py help` lists the commands, `manage.py --version` names the version."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

import config

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:] in (["--version"], ["version"]):  # else Django would print its own version
        print(f"Dormouse {config.__version__}")
    else:
        try:
            execute_from_command_line(sys.argv)
        except ImproperlyConfigured as error:
            sys.exit(f"{error}")

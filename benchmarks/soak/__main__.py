"""Load a web process as strangers and hostile agents would, and print what it cost. Only 127.0.0.1 is used.

Each load is measured beside the same process without it. The goals are printed and not checked, because they depend on
the machine. The exit code is 1 if the log holds a traceback, or a permitted request was refused.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.soak import churn, strangers
from benchmarks.soak.site import site

GOALS = "Goals: medians within 5 times those without strangers; memory grows by 50 MB at most, and comes back."


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--strangers", type=int, default=100, help="that send forms, and that sign in (default: 100)")
    parser.add_argument("--megabytes", type=int, default=40, help="the size of each form (default: 40)")
    parser.add_argument("--held", type=int, default=1500, help="idle or half-sent requests (default: 1500)")
    parser.add_argument("--seconds", type=float, default=10, help="how long each load lasts (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="of each load, beside the same without (default: 3)")
    parser.add_argument("--minutes", type=float, default=2, help="of hostile agents, readers and churn (default: 2)")
    parser.add_argument("--long", action="store_true", help="an hour of hostile agents, readers and churn")
    found = parser.parse_args()
    if found.long:
        found.minutes = 60
    return found


def main() -> int:
    asked = parse_arguments()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="dormouse-soak-") as folder, site(Path(folder)) as found:
        print(GOALS, flush=True)
        strangers.run(found, asked)
        churn.run(found, asked.minutes * 60)
        found.print_troubles()
        return int(found.has_troubles)


if __name__ == "__main__":
    sys.exit(main())

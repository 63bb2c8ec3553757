"""JupyterHub's own readiness wait, in its own virtual environment.

It reads a URL from each line, and writes when the URL was ready, in monotonic ns.
"""

import asyncio
import sys
import time

from jupyterhub.utils import wait_for_http_server


async def wait(url: str) -> int:
    await wait_for_http_server(url, timeout=30)
    return time.monotonic_ns()


with asyncio.Runner() as runner:
    for line in sys.stdin:
        print(runner.run(wait(line.strip())), flush=True)

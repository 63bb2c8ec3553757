"""JupyterHub's own readiness wait, in its own environment.

A URL a line in; when it saw it ready, in monotonic ns, out.
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

"""A server of the Model Context Protocol by its own SDK. A tool goes on when its client has heard of its progress."""

import sys
import time
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("tools")


def wait_until_heard() -> None:
    while not Path("heard").exists():
        time.sleep(0.02)


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


@server.tool()
async def count(context: Context) -> str:
    await context.report_progress(1, 2)
    await anyio.to_thread.run_sync(wait_until_heard)
    await context.report_progress(2, 2)
    return "counted"


server.run("streamable-http", port=int(sys.argv[1]))

"""The client of the Model Context Protocol's own SDK. It writes what it hears, a line each."""

import asyncio
import os
import sys

from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

url, token = sys.argv[1:]


async def note(progress: float, total: float | None, message: str | None) -> None:
    print("progress", progress, total, flush=True)
    os.close(os.open("heard", os.O_CREAT))


async def main() -> None:
    async with (
        create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        print(*sorted(tool.name for tool in (await client.list_tools()).tools))
        for name, arguments in (("add", {"a": 2, "b": 3}), ("count", {})):
            result = await client.call_tool(name, arguments, progress_callback=note)
            print(result.content[0].text)


asyncio.run(main())

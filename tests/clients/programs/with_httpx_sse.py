"""httpx-sse does not come back by itself; this is the loop of its README."""

import sys
import time

import httpx
from httpx_sse import connect_sse

url, token, *types = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}"}
with httpx.Client(timeout=60) as client:
    while True:
        try:
            with connect_sse(client, "GET", url, headers=headers) as source:
                for message in source.iter_sse():
                    headers["Last-Event-ID"] = message.id
                    if message.event in types:
                        print(message.event, message.id, flush=True)
        except httpx.TransportError:
            pass
        time.sleep(0.2)

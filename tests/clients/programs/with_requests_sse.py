import sys
from datetime import timedelta

from requests_sse import EventSource

url, token, *types = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}"}
with EventSource(url, headers=headers, reconnection_time=timedelta(milliseconds=100), max_connect_retry=20) as source:
    for message in source:
        if message.type in types:
            print(message.type, message.last_event_id, flush=True)

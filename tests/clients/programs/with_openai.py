"""OpenAI's own SDK. It writes the models and the tokens, a line each."""

import sys
from pathlib import Path

from openai import OpenAI

url, key, *own_token = sys.argv[1:]
client = OpenAI(base_url=url, api_key=key, default_headers={"Dormouse-Token": own_token[0]} if own_token else {})
print(*(model.id for model in client.models.list()))
for chunk in client.chat.completions.create(
    model="dormouse-1", messages=[{"role": "user", "content": "hello"}], stream=True
):
    print(chunk.choices[0].delta.content, flush=True)
    Path("heard").touch()

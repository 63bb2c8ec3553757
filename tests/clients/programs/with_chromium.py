"""The browser's own EventSource, with nothing around it. It cannot send a token: the argument is a session's cookie."""

import shutil
import sys
from urllib.parse import urljoin

from playwright.sync_api import sync_playwright

url, cookie, *types = sys.argv[1:]
FOLLOW = """([url, types]) => {
    const source = new EventSource(url);
    for (const type of types) {
        source.addEventListener(type, (event) => console.log(`heard ${event.type} ${event.lastEventId}`));
    }
}"""


def hear(message):
    if message.text.startswith("heard "):
        print(message.text.removeprefix("heard "), flush=True)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    context = browser.new_context()
    name, _, value = cookie.partition("=")
    context.add_cookies([{"name": name, "value": value, "url": url}])
    page = context.new_page()
    page.on("console", hear)
    page.goto(urljoin(url, "/healthz"))
    page.evaluate(FOLLOW, [url, types])
    while True:
        page.wait_for_timeout(1000)

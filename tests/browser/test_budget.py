"""What a first look at the page costs."""

from events.log import record
from tests.browser.proxy import Proxy
from tests.browser.seeing import SignIn, is_live, weigh


def seed() -> None:
    for number in range(60):
        record("container.lazy_started", instance=f"agent-{number % 7}", data={"latency_ms": 287 + number})


def test_at_most_five_requests_before_the_stream_and_none_to_another_host(proxy: Proxy, sign_in: SignIn):
    seed()
    hosts: set[str] = set()
    page = sign_in(proxy)
    page.on(
        "request", lambda request: hosts.add(request.url.split("/agents")[0].split("/static")[0].split("/events")[0])
    )
    is_live(page)
    before = next(index for index, line in enumerate(proxy.asked) if "/events" in line)
    assert before <= 5, proxy.asked
    page.reload()
    is_live(page)
    assert hosts == {proxy.url}


def test_at_most_30_kb_of_which_8_are_javascript(proxy: Proxy, sign_in: SignIn):
    seed()
    page = sign_in(proxy, viewport={"width": 1100, "height": 800})
    sizes = weigh(page)
    assert "/static/agents_ui/reader.js" in sizes
    assert sum(sizes.values()) <= 30 * 1024, sizes
    assert sum(size for address, size in sizes.items() if address.endswith(".js")) <= 8 * 1024, sizes


def test_nothing_jumps_while_it_loads(proxy: Proxy, sign_in: SignIn):
    seed()
    page = sign_in(proxy)
    for width in (1100, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        page.reload()
        is_live(page)
        shift = page.evaluate(
            """() => new Promise(done => {
                let sum = 0;
                new PerformanceObserver(list => {
                    for (const entry of list.getEntries()) sum += entry.value;
                }).observe({type: 'layout-shift', buffered: true});
                requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(sum), 50)));
            })"""
        )
        assert shift <= 0.02, width

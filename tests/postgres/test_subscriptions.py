"""Of many processes on a PostgreSQL one delivers to a subscription, and another one follows when it is killed."""

from tests.servers import wait_for
from tests.telling.subscriptions.receivers import Receiver, firsts

SUBSCRIBE = """
from telling.subscriptions.models import Subscription
from telling.subscriptions.targets import parse
Subscription.objects.subscribe(parse({url!r}), name="ops", cursor=0)
"""
CLAIM = """
import uuid
from telling.subscriptions.models import Subscription
row = Subscription.objects.get()
pause("read")
print(Subscription.objects.claim(row, uuid.uuid4()))
"""
SUPERVISE = """
from django.core.management import call_command
print("begun", flush=True)
call_command("supervise")
"""
RECORD = """
from events.log import record
for n in range(200):
    record("a.b", data={"n": n})
"""


def test_one_of_many_claims_of_the_same_row_succeeds(site, settings):
    settings.DORMOUSE_WEBHOOK_PRIVATE = True
    site.environment["DORMOUSE_WEBHOOK_PRIVATE"] = "true"
    site.run(SUBSCRIBE.format(url="http://127.0.0.1:9/")).end()
    claims = [site.run(CLAIM) for _ in range(5)]
    assert [claim.said() for claim in claims] == ["read"] * 5
    for claim in claims:
        claim.go_on()
    assert sorted(claim.end().strip() for claim in claims) == ["False"] * 4 + ["True"]


def test_another_process_follows_one_that_is_killed(site):
    receiver = Receiver()
    site.environment |= {"DORMOUSE_WEBHOOK_PRIVATE": "true", "DORMOUSE_PUBLIC_URL": "https://dormouse.example.org"}
    site.run(SUBSCRIBE.format(url=receiver.url)).end()
    supervisors = [site.run(SUPERVISE) for _ in range(2)]
    assert [supervisor.said() for supervisor in supervisors] == ["begun"] * 2
    site.run(RECORD).end()
    owners = "SELECT w.pid FROM telling_subscription s JOIN lifecycle_worker w ON w.id = s.owner"
    (pid,) = wait_for(lambda: site.ask(owners), what="an owner")
    next(one for one in supervisors if one.process.pid == pid).process.kill()
    site.run(RECORD).end()
    wait_for(lambda: firsts(receiver.ids()) == site.ids(), what="everything, in order")
    receiver.stop()

import django_eventstream.urls
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django_eventstream import send_event

from benchmarks.load.marks import data


def publish(request: HttpRequest) -> HttpResponse:
    """Publish in the server's own process, because the stock view sees no other events."""
    first, count = int(request.GET["first"]), int(request.GET["count"])
    for number in range(first, first + count):
        send_event("events", "bench.mark", data(number))
    return HttpResponse()


urlpatterns = [
    path("events", include(django_eventstream.urls), {"channels": ["events"]}),
    path("publish", publish),
]

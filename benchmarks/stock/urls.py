import django_eventstream.urls
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django_eventstream import send_event

from benchmarks.marks import data


def publish(request: HttpRequest) -> HttpResponse:
    """In the server's own process, for the stock view hears of nothing else."""
    first, count = int(request.GET["first"]), int(request.GET["count"])
    for number in range(first, first + count):
        send_event("events", "bench.mark", data(number))
    return HttpResponse()


urlpatterns = [
    path("events", include(django_eventstream.urls), {"channels": ["events"]}),
    path("publish", publish),
]

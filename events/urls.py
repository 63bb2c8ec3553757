from django.urls import path

from events import api

urlpatterns = [path("events", api.events, name="api-events")]

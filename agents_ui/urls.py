from django.urls import path

from agents_ui import views

urlpatterns = [
    path("", views.agents, name="agents"),
    path("activity", views.activity, name="activity"),
    path("activity/<int:id>", views.event, name="event"),
    path("instances", views.instances, name="instances"),
]

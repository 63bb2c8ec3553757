from django.urls import path

from agents_ui import orders, views

urlpatterns = [
    path("", views.agents, name="agents"),
    path("activity", views.activity, name="activity"),
    path("activity/<int:id>", views.event, name="event"),
    path("instances", views.instances, name="instances"),
    path("instances/<str:name>/wake", orders.wake, name="order-wake"),
    path("instances/<str:name>/sleep", orders.sleep, name="order-sleep"),
    path("instances/<str:name>/keep-awake", orders.keep_awake, name="order-keep-awake"),
    path("instances/<str:name>/let-sleep", orders.let_sleep, name="order-let-sleep"),
    path("instances/<str:name>/disable", orders.disable, name="order-disable"),
    path("instances/<str:name>/enable", orders.enable, name="order-enable"),
]

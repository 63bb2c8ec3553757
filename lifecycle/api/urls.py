from django.urls import path

from lifecycle.api import control, views

urlpatterns = [
    path("instances", views.instances, name="api-instances"),
    path("instances/<str:name>", views.instance, name="api-instance"),
    path("instances/<str:name>/wake", control.wake, name="api-wake"),
    path("instances/<str:name>/sleep", control.sleep, name="api-sleep"),
    path("instances/<str:name>/awake-until", control.awake_until, name="api-awake-until"),
    path("instances/<str:name>/disabled", control.disabled, name="api-disabled"),
]

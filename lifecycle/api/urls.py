from django.urls import path

from lifecycle.api import views

urlpatterns = [
    path("instances", views.instances, name="api-instances"),
    path("instances/<str:name>", views.instance, name="api-instance"),
]

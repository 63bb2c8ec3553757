from django.urls import path

from lifecycle.api import views

urlpatterns = [
    path("instances", views.instances, name="api-instances"),
    path("instances/<str:name>", views.instance, name="api-instance"),
    path("instances/<str:name>/dispatch", views.dispatch, name="api-dispatch"),
]

"""Every path except /events, which config.asgi routes before it calls Django."""

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from config.openapi import openapi
from telling.metrics.views import metrics

handler400 = "agents_ui.views.bad_request"

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="agents")),
    path("agents/", include("agents_ui.urls")),
    path("api/openapi.json", openapi, name="api-openapi"),
    path("api/", include("events.urls")),
    path("api/", include("lifecycle.api.urls")),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("accounts/login/", LoginView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("favicon.ico", RedirectView.as_view(url=static("agents_ui/dormouse.svg"))),  # the admin's pages ask for it
]

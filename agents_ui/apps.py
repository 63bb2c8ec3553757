from django.apps import AppConfig


class AgentsUiConfig(AppConfig):
    """The Agents page: instances as cards, and the activity timeline."""

    name = "agents_ui"
    verbose_name = "Agents page"

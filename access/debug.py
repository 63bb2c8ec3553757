"""What the pages of Django's debug mode must not show."""

import re

from django.views.debug import SafeExceptionReporterFilter

DJANGOS = SafeExceptionReporterFilter.hidden_settings.pattern


class ReporterFilter(SafeExceptionReporterFilter):
    """Django's filter, which also hides URLs, because DATABASE_URL may hold a password."""

    hidden_settings = re.compile(f"{DJANGOS}|URL|DSN|OPTIONS", re.IGNORECASE)

"""The Django project of Dormouse."""

#: The one place that names the version. The page, the API, `manage.py --version` and pyproject.toml read it.
__version__ = "0.2.0.dev0"

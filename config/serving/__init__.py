"""Serving under daphne: the layers in front of Django, and what reaches into the server."""

"""Tools for maintainers, which `make` calls."""

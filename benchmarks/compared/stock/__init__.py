"""django-eventstream as its README sets it up: its own view, its own storage, an SQLite file of its own."""

"""Who is asking: a person with a session, or a program with a token."""

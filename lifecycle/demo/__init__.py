"""The demo: a small HTTP agent of the project's own, and the agents file that runs it."""

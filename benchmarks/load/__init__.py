"""The load: readers, writers, dispatches and a slow line."""

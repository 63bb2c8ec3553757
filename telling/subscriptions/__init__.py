"""Deliveries of events to other programs and to people, each from a cursor of its own."""

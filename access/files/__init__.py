"""Files that only their owner may read."""

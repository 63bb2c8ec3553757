"""What `make bench` measures. None of it is a test: no number fails anything."""

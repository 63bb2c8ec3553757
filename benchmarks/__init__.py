"""The benchmarks that `make bench` runs. They are no tests: no figure makes anything fail."""

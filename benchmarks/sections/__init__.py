"""One module for each section of docs/benchmarks.md. `run(folder, quick)` measures, and returns the section."""

"""Local processes: the engine, the agents file, the keeper of each process, and its run file."""

"""Docker: the engine, what its answers mean, where a container is reached, and what its event stream says."""

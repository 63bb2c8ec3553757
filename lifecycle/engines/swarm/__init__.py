"""Docker Swarm: an instance is a service, which sleeps at 0 replicas."""

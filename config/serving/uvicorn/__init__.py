"""What Dormouse does under uvicorn: everything that reaches into the objects of uvicorn."""

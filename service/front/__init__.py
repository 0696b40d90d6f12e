"""Where requests come in: processes, connections, who may ask, and the hot routes in front of FastAPI."""

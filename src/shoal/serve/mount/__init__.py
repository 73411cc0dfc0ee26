"""The front as a guest of another program: its desk answers what comes to the host's ASGI server."""

"""The processes that clients talk to."""

"""Shards on disk: Arrow files with a checksum for each chunk, checked when their rows are first touched."""

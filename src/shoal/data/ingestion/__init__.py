"""Rows in: taken from a source, screened, hashed, profiled, sorted, cut into shards and published."""

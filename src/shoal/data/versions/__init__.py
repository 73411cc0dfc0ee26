"""A dataset's versions: what a manifest says, how one is published, compared, mirrored, repaired and collected."""

"""Members on other machines: a keeper there starts them, and a TCP line joins it to the supervisor."""

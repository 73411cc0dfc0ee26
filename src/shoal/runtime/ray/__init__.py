"""Where code runs on a Ray cluster: actors beside the members, placement groups around gangs."""

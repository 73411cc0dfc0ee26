"""What is told of each answered request to those who asked for it: a line in a file, spans of a trace."""

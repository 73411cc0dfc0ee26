"""Connections of HTTP clients, and the answers to everything that can be asked."""

"""Measurements of the running service, each a program of its own."""

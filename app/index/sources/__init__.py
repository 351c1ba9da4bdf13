"""Readers of outside formats: each yields images with their captions, one at a time."""

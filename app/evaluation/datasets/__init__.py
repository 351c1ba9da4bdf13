"""Readers of labelled image sets: folders, manifests, WebDataset shards, torchvision's sets."""

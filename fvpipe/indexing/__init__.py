"""Folder scan, headers, pairing and manifests."""

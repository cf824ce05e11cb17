"""Segmentation of the breast, fusion of two views, and view agreement: arrays in, arrays out."""

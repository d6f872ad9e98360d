"""Rows as batches: what a batch is, where batches come from, and how they are drawn."""

"""Step 8: what people look at."""

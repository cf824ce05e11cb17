"""Step 7: shards -> models -> predictions -> figures. Only what trains, predicts or exports imports torch."""

"""The paper's ``table1`` and ``table2`` beside ours; ``paper`` has what is printed there."""

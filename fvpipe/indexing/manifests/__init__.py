"""The tables of an index: ``tables`` writes them, ``read`` reads them back; ``mammoclean`` writes another project's schema."""

"""One adapter per data set. What other packages use to add one: :class:`Adapter` and its types."""

from fvpipe.datasets.adapter import Adapter, LabelTable, adapter, side

__all__ = ["Adapter", "LabelTable", "adapter", "side"]

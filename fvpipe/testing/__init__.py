"""Test kit for adapters: a simulated data set in the form that a declaration describes, and the rules that it must keep.

A test of an adapter of another package::

    from fvpipe.testing import check_adapter


    def test_clinic(tmp_path):
        assert check_adapter("adapters/clinic.yaml", tmp_path).not_covered == ()

The declaration is taken to describe the published files correctly. :func:`make_tree` writes the simulated set alone, for
tests of peculiarities beyond the declaration: change a row or a header, write again, and look at the index.
"""

from fvpipe.testing.folder import index_folder, write_image, write_table
from fvpipe.testing.maker import make_tree
from fvpipe.testing.rules import BrokenRules, check_adapter
from fvpipe.testing.tree import SimulatedBreast, SimulatedTree

__all__ = [
    "BrokenRules",
    "SimulatedBreast",
    "SimulatedTree",
    "check_adapter",
    "index_folder",
    "make_tree",
    "write_image",
    "write_table",
]

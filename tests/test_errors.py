"""The tree of errors: as it is drawn, caught as what it resembles, and with the same message everywhere."""

from __future__ import annotations

import pickle

import pytest

from fvpipe import errors

TREE = {name: error for name, error in vars(errors).items() if isinstance(error, type)}


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn = [line.partition("+-- ")[2].split()[0] for line in (errors.__doc__ or "").splitlines() if "+-- " in line]
    assert ["FvpipeError", *drawn] == list(TREE)


@pytest.mark.parametrize("error", TREE.values(), ids=TREE)
def test_an_error_is_its_message(error: type[errors.FvpipeError]) -> None:
    """Also where it resembles an OSError, and after a journey from a worker."""
    message = "/a/b.h5: what is wrong; what to do"
    for each in (error(message), pickle.loads(pickle.dumps(error(message)))):
        assert isinstance(each, errors.FvpipeError)
        assert str(each) == message


def test_errors_are_caught_as_the_builtin_that_they_resemble() -> None:
    assert issubclass(errors.LabelTableError, ValueError)
    assert issubclass(errors.DependencyError, ImportError)
    assert issubclass(errors.MissingShardError, FileNotFoundError)

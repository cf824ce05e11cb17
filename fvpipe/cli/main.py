"""The command `fvpipe`: its commands in the order of use, and errors as one line with an exit code."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from typing import Any

import click

from fvpipe import __version__
from fvpipe.cli.comparison import compare, summary
from fvpipe.cli.datasets import datasets, fetch, phantom
from fvpipe.cli.evaluation import evaluate, split, table1, table2
from fvpipe.cli.figures import figures
from fvpipe.cli.index_and_build import build_shards, index
from fvpipe.cli.inspect import audit, inspect, report, verify
from fvpipe.cli.output import echo
from fvpipe.cli.training import export, predict, train
from fvpipe.errors import FvpipeError
from fvpipe.printable import escaped


class Commands(click.Group):
    """Group of commands in the order of use; a named error becomes one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of definition."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a named error becomes one line on stderr."""
        _open_streams()
        signal.signal(signal.SIGTERM, _terminated)
        # The terminal or the connection to it is gone; ignored under nohup. Windows has no such signal.
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, _terminated)
        try:
            return super().invoke(ctx)
        except FvpipeError as error:
            raise click.ClickException(str(error)) from None
        except MemoryError:
            raise click.ClickException("out of memory; what was finished is kept, run again with fewer --workers") from None
        except ImportError as error:
            raise click.ClickException(f"{escaped(str(error))}; install what is missing (README), then run again") from None
        except OSError as error:
            if not isinstance(error.filename, str):  # not the user's path: a fault of fvpipe, whose traceback is needed
                raise
            raise click.ClickException(f"{escaped(error.filename)}: {error.strerror}; {_advice(error)}") from None
        except click.UsageError as error:
            said = error.format_message()
            if escaped(said, keep="\n\t") == said:
                raise
            raise click.UsageError(escaped(said, keep="\n\t"), error.ctx) from None
        except KeyboardInterrupt:
            echo("interrupted; what was finished is kept, run it again to go on", err=True)
            sys.exit(130)


def _advice(error: OSError) -> str:
    """Advise on a path that the file system does not give access to."""
    match error.errno:
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "check the permissions of it and of the folders above it, or name another place"
        case errno.ENOSPC | errno.EDQUOT:
            return "make room, or name another place"
        case errno.EIO | errno.ESTALE:
            return "the storage fails: check the disk or its connection, then run again"
    return "check the path"  # a name too long, links in a circle, a file where a folder is expected


def _open_streams() -> None:
    """Open standard streams that are closed: the next files would take their numbers, and get what libraries print."""
    for name in ("stdin", "stdout", "stderr"):  # in the order of their numbers
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)  # for the processes of workers
            setattr(sys, name, stream)


def _terminated(number: int, _: object) -> None:
    sys.exit(128 + number)  # unwinds the stack: workers end and temporary files go


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fvpipe")
def main() -> None:
    """Turn mammography DICOM files into small verified HDF5 training shards."""
    # An index makes a million small objects and hardly any cycles: collecting those took a tenth of a build without changes.
    gc.set_threshold(50_000, 20, 20)


for command in (
    *(index, build_shards, split, table1, verify, inspect, audit, report, datasets, phantom, fetch),
    *(train, evaluate, table2, compare, summary, figures, predict, export),
):
    main.add_command(command)

"""Download of CMMD with the client of the Imaging Data Commons, resumed and checked series by series."""

from __future__ import annotations

import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvpipe.config.loading import is_plain_name, nearest, read_yaml
from fvpipe.errors import DependencyError, InputError, StorageError

LAYOUT = "%PatientID/%SeriesInstanceUID"
BUCKET = "idc-open-data"


@dataclass(frozen=True, slots=True)
class Series:
    """One series in the client's index."""

    patient: str
    uid: str
    files: int
    bytes: int  # of all files

    def complete(self, out: Path) -> bool:
        """Whether `out` holds so many files with so many bytes."""
        try:
            sizes = [file.stat().st_size for file in (out / self.patient / self.uid).iterdir() if file.suffix == ".dcm"]
        except OSError:
            return False
        return len(sizes) == self.files and sum(sizes) == self.bytes


@dataclass(frozen=True, slots=True)
class Download:
    """A collection, and what of it is still to be fetched."""

    client: Any  # downloads the series
    out: Path  # folder that the files are written to
    series: tuple[Series, ...]  # all of the collection
    missing: tuple[Series, ...]  # those that `out` does not hold completely

    @property
    def cost(self) -> str:
        """Numbers of series, files and gigabytes, as a sentence."""
        there = len(self.series) - len(self.missing)
        return (
            f"{len(self.series)} series, {sum(s.files for s in self.series)} files, {_gb(self.series)}; "
            f"{there} series are there already, {_gb(self.missing)} to fetch into {self.out}"
        )


def _gb(series: Sequence[Series]) -> str:
    return f"{sum(s.bytes for s in series) / 1e9:.1f} GB"


def plan(collection: str, out: Path) -> Download:
    """Look up a collection in the index that comes with the client, without the network.

    Raises
    ------
    DependencyError
        The client is not installed.
    InputError
        The index has no such collection.
    """
    try:
        import idc_index
    except ImportError:
        raise DependencyError("downloads use the Imaging Data Commons' client: pip install 'fvpipe[idc]'") from None
    client: Any = idc_index.IDCClient()  # type: ignore[attr-defined]
    rows = client.index[client.index["collection_id"] == collection]
    columns = (rows[name] for name in ("PatientID", "SeriesInstanceUID", "instanceCount", "series_size_MB"))
    series = tuple(
        sorted((Series(p, s, int(n), round(mb * 1e6)) for p, s, n, mb in zip(*columns, strict=True)), key=lambda s: s.uid)
    )
    if not series:
        known = sorted(set(client.index["collection_id"][client.index["Modality"] == "MG"]))
        file = Path(__file__).parent / "declarations" / f"{collection}.yaml"  # of the set, where it is one that fvpipe knows
        source = read_yaml(file).get("source", "") if is_plain_name(collection) and file.is_file() else ""
        elsewhere = f"this data set comes from: {source}" if source else f"of mammograms it has {', '.join(known)}"
        raise InputError(f"the client's index has no collection {collection!r}{nearest(collection, known)}; {elsewhere}")
    return Download(client, out, series, tuple(s for s in series if not s.complete(out)))


def fetch(download: Download, show_progress: bool) -> None:
    """Fetch the missing series; files that are there are kept, so that an interrupted download goes on.

    Raises
    ------
    StorageError
        Not enough room.
    InputError
        The store cannot be reached, the client failed, or series are incomplete after it.
    """
    download.out.mkdir(parents=True, exist_ok=True)
    needed, free = sum(s.bytes for s in download.missing), shutil.disk_usage(download.out).free
    if needed > free:
        raise StorageError(f"{download.out}: {needed / 1e9:.1f} GB to fetch, {free / 1e9:.1f} GB free; choose another folder")
    if download.missing:
        _require_store()
        try:
            download.client.download_from_selection(
                str(download.out),
                seriesInstanceUID=[series.uid for series in download.missing],
                dirTemplate=LAYOUT,
                quiet=True,
                show_progress_bar=show_progress,
                use_s5cmd_sync=any(download.out.iterdir()),
            )
        except Exception as error:  # the client raises whatever its libraries raise
            reason = str(error).splitlines()[0][:200] if str(error) else ""
            raise InputError(
                f"the client failed ({type(error).__name__}: {reason}); run it again, it goes on where it was"
            ) from None
    broken = [series for series in download.missing if not series.complete(download.out)]
    if broken:
        named = ", ".join(f"{s.patient}/{s.uid}" for s in broken[:3])
        raise InputError(
            f"{len(broken)} of {len(download.series)} series are incomplete after the download ({named}...); run it again, "
            "it goes on where it was"
        )


def _require_store() -> None:
    """Check that the store answers at all: without a network the client tries each file for minutes, and says nothing."""
    import idc_index.index as client_module

    url = f"{client_module.aws_endpoint_url}/{BUCKET}"
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=30).close()  # noqa: S310 - the client's own
    except urllib.error.HTTPError:  # an answer
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # the client has certificates of its own
            return
        raise InputError(
            f"{url}: cannot be reached ({reason}); nothing was fetched: check the network, or HTTPS_PROXY"
        ) from None

"""Key of the digests that replace patients' identifiers.

The same input and the same key give the same bytes; without the key nobody can find a patient by trying identifiers. The
key is in no output. :meth:`fvpipe.dicom.policy.HeaderPolicy.identifier` makes the digests, of headers and of label tables.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from blake3 import blake3
from platformdirs import user_config_path

from fvpipe.errors import InputError, ParameterError, StorageError
from fvpipe.regular_files import read_regular_text

ENVIRONMENT = "FVPIPE_ID_KEY"
MAX_KEY_BYTES = 1 << 16


def identifier_key(file: Path | None = None) -> bytes:
    """Derive the key from `file`, else from ``FVPIPE_ID_KEY``, else from a secret in the user's configuration folder.

    Parameters
    ----------
    file : Path or None
        UTF-8 text of at least 16 characters; space around it does not count.

    Returns
    -------
    key : bytes, 32 long
        Keys BLAKE3. The user's own secret is made at the first call.

    Raises
    ------
    InputError
        `file` cannot be read.
    ParameterError
        The secret is shorter than 16 characters.
    StorageError
        A new secret cannot be written.
    """
    if file is not None:
        try:
            secret, source = read_regular_text(file, MAX_KEY_BYTES).strip(), str(file)
        except OSError as error:
            raise InputError(f"{file}: the identifier key cannot be read ({error.strerror}); name a file of text") from None
        except UnicodeDecodeError:
            raise InputError(f"{file}: the identifier key cannot be read (no UTF-8 text)") from None
    elif ENVIRONMENT in os.environ:
        secret, source = os.environ[ENVIRONMENT].strip(), ENVIRONMENT
    else:
        secret, source = _own_key(), "the user's key"
    if len(secret) < 16:
        raise ParameterError(f"{source}: the identifier key has {len(secret)} characters; expected at least 16")
    return blake3(secret.encode("utf-8", "surrogateescape"), derive_key_context="fvpipe 2026 patient identifiers").digest()


def _own_key() -> str:
    try:
        file = _key_file()
    except RuntimeError:
        raise StorageError(f"no home folder to keep the identifier key in; set {ENVIRONMENT}") from None
    except OSError as error:
        detail = f"the identifier key cannot be kept ({error.strerror}); set {ENVIRONMENT}"
        raise StorageError(f"{error.filename}: {detail}") from None
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f".identifier.key.{secrets.token_hex(8)}")
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as out:
                out.write(secrets.token_hex(32) + "\n")
            try:
                os.link(aside, file)  # another process may have been first: then its key counts
            except FileExistsError:
                pass
            finally:
                aside.unlink()
        return read_regular_text(file, MAX_KEY_BYTES, errors="surrogateescape").strip()
    except OSError as error:
        raise StorageError(f"{file}: the identifier key cannot be kept ({error.strerror}); set {ENVIRONMENT}") from None


def _key_file() -> Path:
    """The user's key file, whether or not it exists.

    Raises
    ------
    RuntimeError
        The user has no home folder.
    """
    earlier = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "fvpipe" / "identifier.key"
    # Where keys were kept on every system: an existing one counts, or all identifiers would get new digests.
    return earlier if earlier.exists() else user_config_path("fvpipe") / "identifier.key"

"""Files: how they are read and written.

- ``atomic``: writes that leave no part of a file. ``locking``: one writer at a time.
- ``read``: whole files with their digests, and the state by which a change is seen.
- ``tables``: CSV and XLSX, as they are read, with the checks of ``workbooks``. ``csv_lines``: CSV as fvpipe writes it.
- ``folding``: cells and identifiers before they are compared.
"""

"""``python -m fvpipe``."""

from fvpipe.cli.main import main

if __name__ == "__main__":
    main(prog_name="fvpipe")

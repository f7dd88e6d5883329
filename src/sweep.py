"""Runs many at once. `python src/sweep.py --help` says how, `docs/sweeps.md` is its page.

A script only: `inspo.sweep` is the Python interface's function of the same name.
"""

if not __package__:  # run as a file
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).with_name("as_package.py")))

import sys

from inspo.sweeps.command import main

if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # whatever the terminal's: tables hold ±
    sys.exit(main(sys.argv[1:]))

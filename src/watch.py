"""Films trained policies at play. `python src/watch.py --help` says how.

A script only: `inspo.watch` is the Python interface's function of the same name.
"""

if not __package__:  # run as a file
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).with_name("as_package.py")))

import sys

from inspo.film.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

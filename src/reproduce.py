"""The paper's experiments. `python src/reproduce.py --help` and docs/sweeps.md say how."""

if not __package__:  # run as a file
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).with_name("as_package.py")))

import sys

from inspo.sweeps.reproduction import main

if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # whatever the terminal's: tables hold ±
    sys.exit(main(sys.argv[1:]))

"""What all commands in src/ share: options, settings after `with`, exit status, log, errors."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from inspo.utils.config import suggestion
from inspo.utils.errors import ConfigError, UserError, out_of_memory
from inspo.utils.files import storage_message
from inspo.utils.names import near_key

SHOWN_LETTERS = 200  # of what NumPy or PyTorch says about the memory
DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser without abbreviations that raises ConfigError and suggests near names."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help shows the usage")

    def parse_with_settings(self, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
        """The options, and the `key=value` settings after the word `with`."""
        if "with" not in arguments:
            return self.parse_args(arguments), []
        position = arguments.index("with")
        return self.parse_args(arguments[:position]), arguments[position + 1 :]

    def parse_args(self, args: list[str], namespace: Any = None) -> argparse.Namespace:
        """As argparse's, but suggests the nearest option for an unknown one."""
        options, unknown = self.parse_known_args(args, namespace)
        if not unknown:
            return options
        raise ConfigError("\n".join(self._unknown(word) for word in unknown))

    def _unknown(self, word: str) -> str:
        name, equals, value = word.partition("=")
        is_option = name.startswith("-")
        near = near_key(name, self._option_string_actions) if is_option else ""
        if near or not equals:
            answer = near or (suggestion(name, self._option_string_actions) if is_option else "")
            return f"unknown argument '{name}'{answer}"
        setting = f"{name.lstrip('-')}={value}" if is_option else word
        return f"unknown argument '{word}'; settings go after `with`, as in `with {setting}`"


def run_command(
    command: Callable[[list[str]], int | None],
    arguments: list[str],
    on_interrupt: Callable[[KeyboardInterrupt], str] = lambda error: "Interrupted.",
) -> int:
    """Runs a command and returns its exit status.

    Args:
        command: takes the arguments and returns an exit status, or None for success.
        on_interrupt: the message after Ctrl-C or SIGTERM.

    Returns:
        the command's status; 2 if the user's input is wrong, 130 after an interruption.
    """
    _open_streams()
    setup_logging()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers stop as Ctrl-C does
    for stream in (sys.stdout, sys.stderr):
        # File names may hold characters that the terminal cannot show.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = command(arguments) or DONE
        sys.stdout.flush()
        return status
    except (UserError, FileExistsError) as error:
        say(f"{type(error).__name__}: {error}", sys.stderr)
        return WRONG_INPUT
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        _flush_output()
        return FAILED
    except OSError as error:
        say(storage_message(error, error.filename or "the command's output"), sys.stderr)
        _flush_output()
        return WRONG_INPUT
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        say(_memory_message(error), sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt as error:
        say(on_interrupt(error), sys.stderr)
        return INTERRUPTED


def _open_streams() -> None:
    """Drops what is printed to a stream that is closed, as by `>&-`: Python has None there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, os.fdopen(descriptor, "w"))


def setup_logging() -> None:
    """Shows the log on stderr, unless the calling program has set up logging itself."""
    logging.basicConfig(
        level=logging.INFO,
        format="[%(levelname)s %(asctime)s] %(message)s",
        datefmt="%H:%M:%S",
    )
    for chatty in ("fontTools", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _memory_message(error: Exception) -> str:
    """One line: what did not fit into the memory, and what to lower."""
    lines = str(error).splitlines()
    what = f" ({lines[0][:SHOWN_LETTERS]})" if lines else ""
    return (
        f"There is not enough memory{what}. Lower what takes most of it: batch_size, hidden_dim, "
        "test_nepisode, n_parallel, the sizes in env_args, or max_episodes. If it is a GPU's, "
        "device=cpu trains in main memory"
    )


def _flush_output() -> None:
    """Drops what cannot be written. Python would try it again at its end, and fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: object, stream: TextIO | None = None) -> None:
    """Prints a line of a command's output; `stream` is stdout by default."""
    print(text, file=stream)

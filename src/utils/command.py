"""What all commands in src/ share: logging, exit status, errors as one message, settings after `with`."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sacred.arg_parser import get_config_updates

from inspo.utils.config import suggestion
from inspo.utils.errors import ConfigError, UserError

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


class CommandParser(argparse.ArgumentParser):
    """argparse with the project's manners: no abbreviations, help as written, near names suggested."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help shows the usage")

    def parse_with_settings(self, arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
        """The options, and the `key=value` settings after the word `with`."""
        at = arguments.index("with") if "with" in arguments else len(arguments)
        return self.parse_args(arguments[:at]), arguments[at + 1 :]

    def parse_args(self, args: list[str], namespace: Any = None) -> argparse.Namespace:
        """As argparse's, but an unknown option is answered with the nearest one."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            word = unknown[0]
            if not word.startswith("-"):
                hint = "; settings go after `with`, as in `with seed=3`" if "=" in word else ""
                raise ConfigError(f"unknown argument '{word}'{hint}")
            name = word.partition("=")[0]
            raise ConfigError(
                f"unknown argument '{name}'{suggestion(name, self._option_string_actions)}"
            )
        return options


def parse_words(words: Sequence[str]) -> dict[str, Any]:
    """The nested mapping that `key=value` words ask for. `null` and `None` are no value.

    Raises:
        ConfigError: a word is not of that form.
    """
    for word in words:
        if "=" not in word:
            raise ConfigError(f"'{word}' after `with` is not of the form key=value")
    written = [word[: -len("null")] + "None" if word.endswith("=null") else word for word in words]
    return get_config_updates(written)[0]


def run_command(
    command: Callable[[list[str]], int | None],
    arguments: list[str],
    on_interrupt: Callable[[KeyboardInterrupt], str] = lambda error: "Interrupted.",
) -> int:
    """Runs a command and returns its exit status.

    Args:
        command: takes the arguments, and returns an exit status or None for success.
        on_interrupt: what to say after Ctrl-C or SIGTERM.

    Returns:
        what the command returns; 2 where the user's input is wrong, 130 where it was interrupted.
    """
    setup_logging()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request is a Ctrl-C
    for stream in (sys.stdout, sys.stderr):
        # File names need not be text that the terminal can show.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return command(arguments) or DONE
    except (UserError, FileExistsError) as error:
        _say(f"{type(error).__name__}: {error}")
        return WRONG_INPUT
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return WRONG_INPUT
    except KeyboardInterrupt as error:
        _say(on_interrupt(error))
        return INTERRUPTED


def setup_logging() -> None:
    """Shows the log on stderr, unless the program that uses this package has set up its own."""
    logging.basicConfig(
        level=logging.INFO,
        format="[%(levelname)s %(asctime)s] %(message)s",
        datefmt="%H:%M:%S",
    )
    for chatty in ("fontTools", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201

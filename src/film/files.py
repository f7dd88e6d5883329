"""Writes films: GIF by Pillow, MP4 by ffmpeg, PNG for a single frame."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from inspo.utils.errors import ConfigError, DrawingError
from inspo.utils.files import write_atomically
from inspo.utils.pictures import must_draw

if TYPE_CHECKING:
    from inspo.film.film import Film

SUFFIXES = (".gif", ".mp4", ".png")
COLOURS = 128  # of a GIF
UNKNOWN = 255  # no index of one of them
SAMPLES = 8  # frames from which a GIF's colours are chosen
HOLD_SECONDS = 2.5  # how long an end is shown


def check_suffix(path: Path) -> None:
    """Raises ConfigError if a film cannot be written to `path`."""
    if path.suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise ConfigError(f"{path}: a film's name ends in one of {known}")
    if path.suffix == ".mp4" and not _has_ffmpeg():
        raise ConfigError(
            f"{path} needs ffmpeg, which is not on the PATH; "
            f"{path.with_suffix('.gif').name} can be written without it"
        )


def _has_ffmpeg() -> bool:
    with must_draw():
        from matplotlib.animation import FFMpegWriter

        return FFMpegWriter.isAvailable()


def write_film(film: "Film", path: Path, fps: int, frame: int) -> None:
    """Writes `path` atomically.

    Args:
        fps: frames per second.
        frame: which one a PNG shows; negative numbers count from the end.
    """
    with must_draw(), write_atomically(path) as temporary:
        if path.suffix == ".gif":
            write_gif(film, temporary, fps)
        elif path.suffix == ".mp4":
            write_mp4(film, temporary, fps)
        else:
            picture = Image.fromarray(film.pixels(frame))
            picture.save(temporary, format="PNG")


def write_gif(film: "Film", path: Path, fps: int) -> None:
    """One palette for all frames, so that only what changes is stored."""
    samples = np.unique(np.linspace(0, len(film) - 1, SAMPLES).astype(int))
    palette = Palette([film.pixels(number) for number in samples])
    frames, milliseconds = [], []
    for number in range(len(film)):
        frames.append(palette.picture(film.pixels(number)))
        seconds = HOLD_SECONDS if film.is_held(number) else 1 / fps
        milliseconds.append(round(1000 * seconds))
    first, *others = frames
    first.save(
        path, format="GIF", save_all=True, append_images=others, duration=milliseconds, loop=0
    )


def write_mp4(film: "Film", path: Path, fps: int) -> None:
    """H.264, which every browser plays.

    Raises:
        DrawingError: ffmpeg fails.
    """
    from matplotlib.animation import FFMpegWriter

    # The temporary file's name does not tell the format.
    writer = FFMpegWriter(fps=fps, codec="h264", extra_args=["-f", "mp4"])
    try:
        with writer.saving(film.figure, path, film.figure.dpi):
            for number in range(len(film)):
                film.show(number)
                repeats = round(HOLD_SECONDS * fps) if film.is_held(number) else 1
                for _ in range(repeats):
                    writer.grab_frame()
    except (BrokenPipeError, subprocess.CalledProcessError):
        raise DrawingError(
            "ffmpeg stopped before the film was written; is the disk full? "
            "A film in .gif needs no ffmpeg"
        ) from None


class Palette:
    """The commonest colours of some frames. Pictures keep them exactly and lose the others.

    Args:
        frames: uint8 [height, width, 3] each.
    """

    def __init__(self, frames: Sequence[np.ndarray]):
        codes = np.stack([_codes(pixels) for pixels in frames])
        found, counts = np.unique(codes, return_counts=True)
        commonest = found[np.argsort(-counts, kind="stable")][:COLOURS]
        self.colours = _channels(commonest)
        # From a colour's code to its index in the palette, as far as it is known.
        self.index = np.full(1 << 24, UNKNOWN, dtype=np.uint8)

    def picture(self, pixels: np.ndarray) -> Image.Image:
        """A frame in the palette's colours, each pixel in the nearest one."""
        codes = _codes(pixels)
        missing = np.unique(codes[self.index[codes] == UNKNOWN])
        differences = _channels(missing)[:, None] - self.colours
        self.index[missing] = (differences**2).sum(axis=-1).argmin(axis=-1)
        picture = Image.fromarray(self.index[codes])
        picture.putpalette(self.colours.astype(np.uint8).tobytes())
        return picture


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Colours [..., 3] as single numbers below 2 ** 24."""
    return pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _channels(codes: np.ndarray) -> np.ndarray:
    """The opposite of `_codes`, int64 [..., 3]."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)

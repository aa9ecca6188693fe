"""The command line: `python -m numbapool demo | pool | info`.  What it does is in demo.py, files.py and info.py."""
from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import POOLINGS, __version__


def whole(least: int, text: str) -> int:
    """An int from `least` on."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value < least:
        raise argparse.ArgumentTypeError(f"{value} is less than {least}")
    return value


def natural(text: str) -> int:
    """An int from 0 on."""
    return whole(0, text)


def positive(text: str) -> int:
    """An int from 1 on."""
    return whole(1, text)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the commands do."""

    def error(self, message: str) -> NoReturn:
        """Leave with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    result = Parser("numbapool", description="Every pooling of convolutional networks, on arrays and on pictures.")
    result.add_argument("--version", action="version", version=__version__)
    commands = result.add_subparsers(dest="command", required=True, metavar="demo | pool | info")
    demo = commands.add_parser("demo", help="every pooling on a photograph: a table and a picture", allow_abbrev=False)
    output = pathlib.Path("demo-output")
    demo.add_argument("--output", type=pathlib.Path, default=output, metavar="DIR", help="where gallery.png goes (%(default)s)")
    demo.add_argument("--size", type=positive, metavar="N", help="shrink the photo to N pixels at its longer side")
    pool = commands.add_parser("pool", help="pool pictures of your own", allow_abbrev=False)
    pool.add_argument("inputs", nargs="+", type=pathlib.Path, metavar="IN")
    pool.add_argument("-o", "--output", required=True, type=pathlib.Path, metavar="OUT", help="a file, or a folder for several pictures")
    pool.add_argument("--pooling", default="soft", choices=POOLINGS, metavar="NAME", help=f"{', '.join(POOLINGS)} (%(default)s)")
    pool.add_argument("--kernel", type=positive, default=2, metavar="K", help="size of a window (%(default)s)")
    pool.add_argument("--stride", type=positive, metavar="S", help="distance of two windows (the kernel's size)")
    pool.add_argument("--padding", type=natural, metavar="P", help="positions added on every side (0)")
    pool.add_argument("--seed", type=natural, metavar="N", help="of poolings that draw (0)")
    commands.add_parser("info", help="versions, threads, CPU and cache")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for what the user can mend, 1 for a demo whose results differ."""
    options = parser().parse_args(arguments)
    from . import demo, files, info, pictures
    try:
        if options.command == "demo":
            return demo.run(options.output, options.size)
        if options.command == "pool":
            window = {name: getattr(options, name) for name in ("stride", "padding", "seed") if getattr(options, name) is not None}
            files.run(options.inputs, options.output, options.pooling, options.kernel, window)
        else:
            print(info.report())
    except pictures.PictureError as error:
        print(f"numbapool {options.command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

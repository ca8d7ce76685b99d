"""python -m eval figures ..."""

from __future__ import annotations

import argparse
import sys

from eval import figures
from hub import WeightsError
from pipeline.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m eval", description=__doc__, epilog="Research software, not a medical device."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    figures.add_arguments(commands.add_parser("figures", help="Dice, IoU, box recall and times of a release"))
    parsed = parser.parse_args(arguments)
    try:
        return figures.run(parsed)
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

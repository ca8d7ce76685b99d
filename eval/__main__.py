"""Measure a release on data sets in their official layouts: python -m eval figures | table | nnunet | ..."""

from __future__ import annotations

import argparse
import sys

from hub import WeightsError
from pipeline.errors import InputError, missing_package


def main(words: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 2 something was refused."""
    try:
        from eval import figures, readme, scope, table, thresholds
        from eval.nnunet import command as nnunet
    except ModuleNotFoundError as error:
        print(missing_package("python -m eval", error.name), file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(
        prog="python -m eval", description=__doc__, epilog="Research software, not a medical device."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module, summary in (
        ("figures", figures, "Dice, IoU, box recall, false positives and times of a release"),
        ("table", table, "ours beside baselines on the same images, with intervals, as a table and plots"),
        ("nnunet", nnunet, "train nnU-Net on a source and let it predict, for the table"),
        ("readme", readme, "fill the README's comparison from results.json"),
        ("scope", scope, "how well images of nothing that the release knows are told apart"),
        ("thresholds", thresholds, "the least score of each class that serves best on val, for config.json"),
    ):
        subparser = commands.add_parser(name, help=summary)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    arguments = parser.parse_args(words)
    try:
        return arguments.run(arguments)
    except ModuleNotFoundError as error:
        print(missing_package("python -m eval", error.name), file=sys.stderr)
        return 2
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

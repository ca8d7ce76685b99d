"""Measure a release on data sets in their official layouts: python -m eval figures | table | nnunet | latency | ..."""

from __future__ import annotations

import argparse
import importlib
import sys

from hub import WeightsError
from pipeline.errors import InputError, missing_package
from pipeline.results import NOTICE

#: The modules give `add_arguments(parser)` and `run(arguments) -> int`; only the one that is asked for is loaded.
_COMMANDS = {
    "figures": "Dice, IoU, box recall, false positives and times of a release",
    "table": "ours beside baselines on the same images, with intervals, as a table and plots",
    "stacks": "volumes and videos: Dice of whole stacks, each row against the first",
    "nnunet": "train nnU-Net on a source and let it predict, for the table",
    "readme": "fill the README's comparison from results.json",
    "latency": "milliseconds warm and cold, a stage at a time, and memory, beside other networks",
    "batch": "images a second and memory of `python -m pipeline batch`, with one worker and with one a core",
    "opening": "what onnxruntime makes of the graphs when it opens them, and how long that takes",
    "sensitivity": "what quantizing one graph, or all of it but a group of nodes, costs on val",
    "devices": "how the figures hold on images as another hospital's devices might give them",
    "scope": "how well images of nothing that the release knows are told apart",
    "soak": "the page under many clients for an hour: errors, memory, answer times",
    "prepare-scale": "prepare at the method's scale, on drawn images and videos: images a second, memory",
    "thresholds": "the least score of each class that serves best on val, for config.json",
    "outlines": "what shapes the outlines of each class best on val, for config.json",
}


def main(words: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 2 something was refused."""
    words = sys.argv[1:] if words is None else words
    parser = argparse.ArgumentParser(prog="python -m eval", description=__doc__, epilog=NOTICE)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    try:
        for name, summary in _COMMANDS.items():
            subparser = commands.add_parser(name, help=summary)
            if words[:1] == [name]:
                module = importlib.import_module(f"eval.{name.replace('-', '_')}")
                module.add_arguments(subparser)
                subparser.set_defaults(run=module.run)
        arguments = parser.parse_args(words)
        return arguments.run(arguments)
    except ModuleNotFoundError as error:
        print(missing_package("python -m eval", error.name), file=sys.stderr)
        return 2
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

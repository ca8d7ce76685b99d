"""The command line: python -m pipeline segment | batch | prepare | train | features | average | export | quantize |
scope | import-medsam2.

Only what the named command needs is imported: `segment` runs where torch is not installed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hub.errors import WeightsError
from pipeline import __version__, options
from pipeline.errors import InputError, missing_package
from pipeline.results import NOTICE

_PROG = "python -m pipeline"
#: What a command that a user names wrongly, or with an input that can't be used, exits with; and one that is stopped.
_EXIT_REFUSED, _EXIT_STOPPED = 2, 130

#: The commands that are loaded when they are asked for. Their modules give `add_arguments(parser)` and
#: `run(arguments) -> int | None`.
_RUN_COMMANDS = {("batch",): ("pipeline.batch.command", "segment a whole archive, on one machine or many")}
#: Those of them that build a release.
_BUILD_COMMANDS = {
    ("prepare",): ("pipeline.datasets.prepare", "bring data sets into one form: 640x640, split by patient, COCO JSON"),
    ("train", "detector"): ("pipeline.training.train_detector", "train YOLO-NAS-S to find the regions"),
    ("train", "segmenter"): ("pipeline.training.train_segmenter", "train MedSAM2 to outline them"),
    ("features",): ("pipeline.training.feature_cache", "let a release's networks look at many images, once"),
    ("train", "decoder"): ("pipeline.training.train_decoder", "train MedSAM2's mask decoder alone"),
    ("train", "memory"): ("pipeline.training.train_memory", "train MedSAM2's memory for volumes and videos"),
    ("average",): ("pipeline.training.average", "the mean of several trainings' weights of one network"),
    ("export",): ("pipeline.training.export", "write the trained networks as ONNX graphs"),
    ("scope",): ("pipeline.training.scope", "teach a release which images it knows"),
    ("quantize",): ("pipeline.training.quantize", "turn the ONNX graphs into INT8"),
    ("import-medsam2",): ("pipeline.training.import_medsam2", "put an official MedSAM2 beside a release's detector"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 2 something was refused, 130 stopped by Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = build_parser(words).parse_args(words)
        return arguments.run(arguments) or 0
    except (InputError, WeightsError) as error:
        return _refuse(error)
    except ModuleNotFoundError as error:
        builds = words[0] in {command[0] for command in _BUILD_COMMANDS}
        if not builds or (error.name or "").split(".")[0] in ("pipeline", "hub"):
            raise
        return _refuse(missing_package(f"{_PROG} {words[0]}", error.name))
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return _EXIT_STOPPED
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`). Python would complain again when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command that `words` names; the other commands are only listed, not loaded."""
    parser = _Parser(prog=_PROG, description="Finds and outlines regions in medical images, without any prompt.")
    parser.add_argument("--version", action="version", version=f"AutoMedSeg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    segment = commands.add_parser("segment", help="find and outline regions in images", description=_SEGMENT)
    _add_segment_arguments(segment)
    segment.set_defaults(run=_run_segment)
    parents = {(): commands}
    for command, (module, summary) in (_RUN_COMMANDS | _BUILD_COMMANDS).items():
        group = command[:-1]
        if group not in parents:
            train = commands.add_parser(*group, help="train one of the networks")
            parents[group] = train.add_subparsers(required=True, metavar="NETWORK")
        subparser = parents[group].add_parser(command[-1], help=summary, description=f"{summary.capitalize()}.")
        if tuple(words[: len(command)]) == command:
            loaded = importlib.import_module(module)
            loaded.add_arguments(subparser)
            subparser.set_defaults(run=loaded.run)
    return parser


class _Parser(argparse.ArgumentParser):
    """One line an error, the notice under every help, and no abbreviated options: other tools call this."""

    def __init__(self, **settings):
        super().__init__(**{"epilog": NOTICE, "allow_abbrev": False, **settings})

    def error(self, message: str):
        self.exit(_EXIT_REFUSED, f"{self.prog}: {message} (--help shows what is accepted)\n")


_SEGMENT = """Find and outline regions. Each image gives NAME.json, NAME_mask.png (pixel values are class ids) and
NAME_overlay.png; each volume or folder of DICOM slices NAME.json, NAME_seg.nii.gz, NAME_objects.nii.gz and
NAME_overlay.png; each video NAME.json, NAME_seg.npz and NAME_overlay.mp4. Finding nothing is a result, too. Exit code 2
where an input was refused; the others are done."""


def _add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="PATH",
        help="image (PNG, JPEG, TIFF, DICOM, NIfTI), volume (NIfTI, NRRD, MHA, DICOM), video (MP4, AVI, GIF, DICOM), "
        "a folder, or a pattern",
    )
    add("--out", required=True, type=Path, metavar="DIR", help="folder for the results; made where it lacks")
    add(
        "--precision",
        choices=("int8", "int4", "fp32", "fp16"),
        default="int8",
        help="of the networks (default: %(default)s)",
    )
    add("--weights", default="embedded", metavar="RELEASE", help="embedded (default), a folder, user/repo[@revision]")
    add("--classes", type=options.class_names, metavar="A,B", help="look for these classes only")
    add("--min-score", type=options.score, metavar="S", help="least score, 0..1 (default: the release's own, class by "
        "class)")  # fmt: skip
    add("--box", type=options.box, action="append", dest="boxes", metavar="X,Y,W,H", help="outline what is in this "
        "box, in pixels, rather than look for regions; may be given several times")  # fmt: skip
    add("--axis", type=options.axis, metavar="A", help="cut volumes along the patient's axis 0 (sagittal slices), "
        "1 (coronal) or 2 (axial); default: as they were made")  # fmt: skip
    add("--window", type=options.window, metavar="CENTER,WIDTH", help="intensities of volumes to look at, in HU for "
        "CT: 40,400 shows soft tissue")  # fmt: skip
    add("--frames", action="store_true", help="take a folder of numbered pictures as one video")
    add("--threads", type=options.count, metavar="N", help="CPU threads (default: all cores)")
    add("--quiet", action="store_true", help="no line an image on standard output")


def _run_segment(arguments: argparse.Namespace) -> int:
    from pipeline.segment_files import segment_files

    return segment_files(arguments)


def _refuse(problem: object) -> int:
    print(*str(problem).splitlines(), file=sys.stderr)
    return _EXIT_REFUSED

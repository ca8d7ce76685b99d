"""`python -m pipeline import-medsam2`: an official MedSAM2 checkpoint -> a release, beside a released detector.

The detector and the classes are those of the base release, its graphs byte for byte. The licence of the checkpoint and
where it came from stand in the manifest and the model card. What says which images the weights know is left out: it is
of another encoder's features, and `python -m pipeline scope` makes it anew.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from hub.card import model_card
from hub.files import replace_file, replace_path
from hub.reference import Reference
from hub.release import CARD, Release, file_entry
from hub.resolve import fetch_file, resolve
from pipeline.errors import InputError
from pipeline.training.calibration import Calibration
from pipeline.training.config import read_config
from pipeline.training.export import GRAPHS_OF, MEMORY_GRAPHS, export_release, list_files, save_graph, store_half
from pipeline.training.optimize_graph import optimize_graph
from pipeline.training.quantize_graph import quantize_graph
from pipeline.training.recipes import UNCALIBRATED

#: Where MedSAM2's authors publish it, their newest checkpoint, and its licence there.
OFFICIAL, FILE, LICENSE = "wanglab/MedSAM2", "MedSAM2_latest.pt", "CC-BY-SA-4.0"


def import_medsam2(
    checkpoint: Path, out: Path, base: Release, *, source: str, license: str, version: str = "0.1.0"
) -> Release:
    """Export and quantize a checkpoint of SAM2.1 Hiera-T at 512 pixels, beside the detector of `base`.

    Parameters
    ----------
    checkpoint
        .pt as `{'model': state_dict}`, or a plain state dict, also as .safetensors; nothing in it is executed.
    source
        Where it came from, in words, such as 'wanglab/MedSAM2@commit, MedSAM2_latest.pt'.
    license
        The checkpoint's, such as 'CC-BY-SA-4.0'.

    Raises InputError where the checkpoint isn't MedSAM2's, WeightsError where the base lacks a detector.
    """
    detectors = {precision: base.file(f"onnx/{precision}/detector.onnx") for precision in ("fp32", "int8")}
    digest = file_entry(checkpoint)["sha256"]
    trained_on = dict(base.manifest.get("trained_on", {})) | {
        "segmenter": f"MedSAM2, imported from {source} (sha256 {digest[:16]}, {license}); not trained here."
    }
    trained_on.pop("scope", None)
    runs = [run for run in trained_on.pop("runs", []) if run.get("network") == "detector"]
    trained_on |= {"runs": runs} if runs else {}
    licenses = {"segmenter": {"license": license, "source": f"{source}, sha256 {digest}"}}
    release = export_release(
        {"segmenter": checkpoint},
        out,
        read_config(None, base),
        version=version,
        trained_on=trained_on,
        base=base,
        new_licenses=licenses,
        memory=True,
    )
    calibration = Calibration((), release.config)
    for name in (*GRAPHS_OF["segmenter"], *MEMORY_GRAPHS):
        graph = quantize_graph(name, release.file(f"onnx/fp32/{name}.onnx"), calibration, UNCALIBRATED[name])
        save_graph(optimize_graph(store_half(graph)), out / "onnx" / "int8" / f"{name}.onnx")
    for precision, path in detectors.items():
        with replace_path(out / "onnx" / precision / "detector.onnx") as temporary:
            shutil.copyfile(path, temporary)
    kept = release.manifest.get("licenses")
    release = list_files(out, version=version, trained_on=release.manifest["trained_on"], licenses=kept)
    with replace_file(out / CARD) as file:
        file.write(model_card(release))
    return release


def add_arguments(parser: argparse.ArgumentParser) -> None:
    origin = parser.add_mutually_exclusive_group()
    text = "official checkpoint, {'model': state_dict} as .pt, or .safetensors"
    origin.add_argument("--checkpoint", type=Path, metavar="FILE", help=text)
    text = f"take it from the Hub (default: {OFFICIAL})"
    origin.add_argument("--repo", default=None, metavar="user/repo[@rev]", help=text)
    parser.add_argument("--file", default=FILE, metavar="NAME", help="its name there (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="release folder; one in it is replaced")
    text = "release whose detector goes with it: embedded (default), a folder, user/repo[@revision]"
    parser.add_argument("--base", default="embedded", metavar="RELEASE", help=text)
    text = f"licence of the checkpoint ({OFFICIAL}'s is {LICENSE}; needed for a repository of others)"
    parser.add_argument("--license", metavar="NAME", help=text)
    parser.add_argument("--version", default="0.1.0", help="version of the new release (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    base = resolve(arguments.base)
    if base.folder.resolve() == arguments.out.resolve():
        raise InputError("--out", f"{arguments.out} is the base release itself", "another folder")
    license = arguments.license or LICENSE
    if arguments.checkpoint:
        checkpoint, source = arguments.checkpoint, arguments.checkpoint.name
        if not checkpoint.is_file():
            raise InputError(checkpoint, "no such file", "an official MedSAM2 checkpoint")
    else:
        reference = Reference.parse(arguments.repo or OFFICIAL)
        if reference.repo != OFFICIAL and not arguments.license:
            raise InputError("--license", f"{reference.repo} is not {OFFICIAL}", "the licence that its page names")
        checkpoint, commit = fetch_file(reference, arguments.file)
        source = f"{reference.repo}@{commit}, {arguments.file}"
    release = import_medsam2(checkpoint, arguments.out, base, source=source, license=license, version=arguments.version)
    print(f"{release.folder}: release {release.version}, {', '.join(release.precisions)}; the segmenter is {license}.")
    return 0

"""The files that a visitor takes away: those of the command line, COCO JSON, NIfTI for NIfTI, DICOM SEG for DICOM."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

from hub.files import replace_file, replace_path
from pipeline.coco_json import coco_json
from pipeline.errors import InputError
from pipeline.inputs import output_names
from pipeline.readers.content import content_of
from pipeline.result_files import result_paths, write_result_files
from pipeline.results import Segmentation
from pipeline.scan import Scan
from pipeline.stack import Stack
from pipeline.stack_files import stack_result_paths, write_stack_files
from pipeline.tracks import Tracking


def write_take_away(
    folder: Path, scan: Scan, segmentation: Segmentation, class_names: dict[int, str]
) -> tuple[list[Path], InputError | None]:
    """Write everything that can be taken away of one image into `folder`; returns the files.

    `<stem>_mask.png`, `<stem>_overlay.png` and `<stem>.json` are the command line's, `<stem>_coco.json` is COCO's
    layout; of a NIfTI file `<stem>_seg.nii.gz` is the label map with the file's axes and affine, and of a DICOM file in
    which something was found `<stem>_seg.dcm` is a DICOM Segmentation. All others are made from pixels alone: nothing
    of a picture's EXIF or a DICOM header is in them; the Segmentation names patient and study, as the standard asks.

    Returns
    -------
    The files, and why a DICOM Segmentation is not among them where the header does not allow one, else None.

    Raises
    ------
    InputError
        Where the folder can't be written to.
    """
    name = PurePath(output_names([scan.path])[scan.path].name)
    write_result_files(folder, name, scan.path.name, scan.pixels, segmentation)
    written = list(result_paths(folder, name))
    coco = folder / f"{name}_coco.json"
    with replace_file(coco) as out:
        out.write(json.dumps(coco_json(segmentation, scan.path.name, class_names)) + "\n")
    written.append(coco)
    if scan.affine is not None:
        # imported here: nibabel takes longer to load than a PNG to read
        from pipeline.readers.nifti import label_map_as_stored

        labels = folder / f"{name}_seg.nii.gz"
        with replace_path(labels) as temporary:
            label_map_as_stored(scan.path, segmentation.label_map(), segmentation.note).to_filename(temporary)
        written.append(labels)
    refused = None
    if content_of(scan.path) == "dicom" and len(segmentation):
        # imported here: highdicom takes a second to load
        from pipeline.dicom_seg import dicom_seg

        try:
            with replace_path(folder / f"{name}_seg.dcm") as temporary:
                dicom_seg(scan.path, segmentation).save_as(temporary)
            written.append(folder / f"{name}_seg.dcm")
        except InputError as error:
            refused = InputError(scan.path.name, error.problem, error.expected)
    return written, refused


def write_stack_take_away(folder: Path, stack: Stack, found: Tracking) -> list[Path]:
    """The command line's files of a volume or a video."""
    name = PurePath(output_names([stack.path])[stack.path].name)
    write_stack_files(folder, name, stack.path.name, stack, found)
    return stack_result_paths(folder, name, stack.kind)

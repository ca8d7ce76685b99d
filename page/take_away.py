"""The files that a visitor takes away: those of the command line, COCO JSON, and NIfTI where a NIfTI file came in."""

from __future__ import annotations

import json
from pathlib import Path, PurePath

from hub.files import replace_file, replace_path
from pipeline.coco_json import coco_json
from pipeline.inputs import output_names
from pipeline.result_files import result_paths, write_result_files
from pipeline.results import Segmentation
from pipeline.scan import Scan


def write_take_away(folder: Path, scan: Scan, segmentation: Segmentation, class_names: dict[int, str]) -> list[Path]:
    """Write everything that can be taken away of one image into `folder`; returns the files.

    `<stem>_mask.png`, `<stem>_overlay.png` and `<stem>.json` are the command line's, `<stem>_coco.json` is COCO's
    layout, and of a NIfTI file `<stem>_seg.nii.gz` is the label map with the file's axes and affine. They are made
    from pixels alone: nothing of a picture's EXIF or a DICOM header is in them.

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
            label_map_as_stored(scan.path, segmentation.label_map()).to_filename(temporary)
        written.append(labels)
    return written

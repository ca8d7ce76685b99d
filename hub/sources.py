"""The data sets that the weights were trained on and are measured on: what each shows, and its terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hub.tables import markdown_table


@dataclass(frozen=True)
class Source:
    """One data set, as the model card and the README describe it."""

    title: str
    modality: str
    labelled: str
    terms: str


SOURCES = {
    "lgg_mri_tcga": Source(
        "TCGA-LGG, with the LGG segmentation masks of Buda et al.",
        "brain MRI: pre-contrast, FLAIR, post-contrast",
        "brain_tumor: FLAIR abnormality, by hand",
        "images CC BY 3.0, masks CC BY-NC-SA 4.0",
    ),
    "msd_task04_hippocampus": Source(
        "Medical Segmentation Decathlon, Task04",
        "T1 MRI volumes",
        "hippocampus: anterior and posterior, merged",
        "CC BY-SA 4.0",
    ),
    "cxr_lungs_montgomery_shenzhen": Source(
        "Montgomery County and Shenzhen chest X-rays",
        "chest X-ray",
        "lung: left and right",
        "NLM, research use; Shenzhen masks CC BY-NC-SA 4.0",
    ),
    "sunnybrook_cardiac_cine": Source(
        "Sunnybrook Cardiac Data", "short-axis cine MRI", "left_ventricle: endocardium", "CC0"
    ),
    "kvasir_seg_polyp": Source("Kvasir-SEG", "colonoscopy", "polyp", "research and education only"),
    "hc18_fetal_head": Source("HC18", "fetal ultrasound", "fetal_head: filled ellipse", "CC BY 4.0"),
    "busi_breast_us_148": Source("BUSI, 148 images", "breast ultrasound", "breast_lesion", "CC BY 4.0"),
    "nih_chestxray14_subset": Source(
        "NIH ChestX-ray14, a part", "chest X-ray", "boxes of findings, no masks", "free use with citation"
    ),
}


def sources_table(names: Iterable[str] = SOURCES) -> str:
    """Data sets and their terms, a Markdown table. A set that isn't known here is a user's own."""
    own = Source("", "", "", "its owner's")
    rows = []
    for name in names:
        source = SOURCES.get(name, own)
        title = f"{source.title} (`{name}`)" if source.title else f"`{name}`"
        rows.append((title, source.modality, source.labelled, source.terms))
    return markdown_table(("data set", "images", "what is labelled", "terms"), rows, texts=4)

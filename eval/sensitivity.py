"""What quantizing one graph, in one way, costs on val: Dice, agreement with fp32's masks, milliseconds, bytes.

One graph at a time is quantized and the others stay fp32; a variant of the encoder or the decoder is judged with
fp32's boxes. Images are prepared ones, evenly over the sources; Dice is of the union of masks, mean over a source's
images, then over sources. "Agreement" is Dice between the variant's union and fp32's: it sees small changes that Dice
with the truth does not. Milliseconds are of the graph alone, variants in turns, against fp32's in the same turn.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from tqdm import tqdm

from eval.measured import write_measured, write_results
from eval.metrics import dice
from eval.variants import VARIANTS, Variant
from hub import Release, resolve
from hub.revision import git_revision, machine_name
from hub.tables import markdown_table
from pipeline.detector import Detector
from pipeline.errors import InputError
from pipeline.geometry import union_of
from pipeline.results import Detections
from pipeline.runtime import open_session
from pipeline.segmenter import Embedding, Segmenter
from pipeline.training.calibration import Calibration, content, pick_images
from pipeline.training.export import GRAPHS, save_graph, store_half
from pipeline.training.noise import noise_feed
from pipeline.training.optimize_graph import optimize_graph
from pipeline.training.prepared import PreparedImage, PreparedSplit
from pipeline.training.quantize_graph import quantize_graph


@dataclass(frozen=True)
class Parts:
    """A release's chain, put together from graphs of any precision."""

    detector: Detector
    segmenter: Segmenter

    @classmethod
    def open(cls, release: Release, threads: int | None, **graphs: Path) -> Parts:
        """`graphs` names those that are not the release's fp32: detector, image_encoder, mask_decoder."""
        paths = {name: graphs.get(name) or release.file(f"onnx/fp32/{name}.onnx") for name in GRAPHS}
        detector, encoder, decoder = (open_session(path, threads) for path in paths.values())
        return cls(Detector(detector, release.config), Segmenter(encoder, decoder, release.config))


class Question:
    """One val image, its truth, and what the fp32 release makes of it."""

    def __init__(self, image: PreparedImage, ids: list[int], fp32: Parts):
        self.pixels, self.source = content(image), image.source
        left, top, right, bottom = image.content
        masks = (image.mask(number)[top:bottom, left:right] for number in range(len(image.rles)))
        self.truth = union_of(masks, self.pixels.shape[:2])
        self.class_ids = [ids[index] for index in np.unique(image.class_index)]
        self.boxes = self.find(fp32.detector)
        self.embedding = self.embed(fp32.segmenter, self.boxes)
        self.union = self.outline(fp32.segmenter, self.embedding, self.boxes)

    def find(self, detector: Detector) -> Detections:
        return detector.detect(self.pixels, class_ids=self.class_ids)

    def embed(self, segmenter: Segmenter, boxes: Detections) -> Embedding:
        resize = segmenter.plan(self.pixels, boxes.boxes)
        return segmenter.embed_input(resize.image(self.pixels), resize)

    def outline(self, segmenter: Segmenter, embedding: Embedding, boxes: Detections) -> np.ndarray:
        """bool (H, W): the union of the masks of the image's classes."""
        if not len(boxes):
            return np.zeros(self.truth.shape, bool)
        logits = segmenter.decode(embedding, boxes=boxes.boxes)[0]
        return union_of((embedding.resize.mask_back(mask) for mask in logits), self.truth.shape)

    def answer(self, graph: str, parts: Parts) -> np.ndarray:
        """The union of masks where one graph is another and the rest fp32."""
        boxes = self.find(parts.detector) if graph == "detector" else self.boxes
        same = graph != "image_encoder" and parts.segmenter.plan(self.pixels, boxes.boxes) == self.embedding.resize
        embedding = self.embedding if same else self.embed(parts.segmenter, boxes)
        return self.outline(parts.segmenter, embedding, boxes)


def ask(release: Release, prepared: Path, per_source: int, threads: int | None) -> list[Question]:
    """Val images with masks, at most `per_source` of each source."""
    split = PreparedSplit.read(prepared, "val")
    of_name = {entry["name"]: entry["id"] for entry in release.config["classes"]}
    if not set(split.classes) & set(of_name):
        raise InputError(prepared, f"classes {', '.join(split.classes)}", f"some of {', '.join(of_name)}")
    ids, fp32 = [of_name.get(name, -1) for name in split.classes], Parts.open(release, threads)
    images = [i for i in split.evenly(per_source, empty=False) if len(i.rles) and None not in i.rles]
    return [Question(image, ids, fp32) for image in tqdm(images, desc="fp32", unit="image", disable=None)]


def judge(variant: Variant, questions: list[Question], parts: Parts) -> dict[str, float | dict]:
    """{'dice', 'agreement', 'sources': {name: dice}}; the same of fp32 is its `dice` less `gain`."""
    by_source = defaultdict(list)
    for question in questions:
        union = question.answer(variant.graph, parts)
        same = dice(union, question.union) if union.any() or question.union.any() else 1.0
        by_source[question.source].append((dice(union, question.truth), dice(question.union, question.truth), same))
    means = {source: np.mean(rows, axis=0) for source, rows in sorted(by_source.items())}
    found, fp32, same = np.mean(list(means.values()), axis=0)
    return {
        "dice": round(float(found), 5),
        "gain": round(float(found - fp32), 5),
        "agreement": round(float(same), 5),
        "sources": {source: round(float(values[0] - values[1]), 5) for source, values in means.items()},
    }


def build(variant: Variant, release: Release, prepared: Path, path: Path) -> dict[str, float]:
    """Quantize into `path`; {'bytes', 'seconds'}."""
    images = pick_images(PreparedSplit.read(prepared, "train"), variant.images, prepared / "train.json")
    calibration = Calibration(images, release.config, release.file("onnx/fp32/image_encoder.onnx"))
    start = perf_counter()
    source = release.file(f"onnx/fp32/{variant.graph}.onnx")
    graph = quantize_graph(variant.graph, source, calibration, variant.recipe)
    save_graph(optimize_graph(store_half(graph)), path)
    return {"bytes": path.stat().st_size, "seconds": round(perf_counter() - start, 1)}


def time_graphs(release: Release, names: list[str], folder: Path, rounds: int, threads: int | None) -> dict[str, dict]:
    """{variant: {'ms', 'times_fp32': (p10, p50, p90)}}, the variants of a graph and its fp32 in turns."""
    found = {}
    for graph in GRAPHS:
        own = [name for name in names if VARIANTS[name].graph == graph]
        if not own:
            continue
        paths = {"fp32": release.file(f"onnx/fp32/{graph}.onnx")} | {name: _graph(folder, name) for name in own}
        sessions = {name: open_session(path, threads) for name, path in paths.items()}
        feed = noise_feed(sessions["fp32"])
        times: dict[str, list[float]] = {name: [] for name in sessions}
        for turn in tqdm(range(rounds + 2), desc=graph, unit="round", disable=None):
            for name, session in sessions.items():
                start = perf_counter()
                session.run(None, feed)
                if turn >= 2:
                    times[name].append(1000 * (perf_counter() - start))
        fp32 = np.array(times["fp32"])
        for name in own:
            ratios = np.percentile(fp32 / np.array(times[name]), (10, 50, 90)).round(3).tolist()
            found[name] = {"ms": round(float(np.median(times[name])), 2), "times_as_fast": ratios}
        found[f"{graph}/fp32"] = {"ms": round(float(np.median(fp32)), 2), "times_as_fast": [1.0, 1.0, 1.0]}
    return found


def _graph(folder: Path, name: str) -> Path:
    return folder / "graphs" / f"{name.replace('/', '_').replace(' ', '_').replace(',', '')}.onnx"


_COLUMNS = ("variant", "Dice", "against fp32", "agreement with fp32", "ms", "times as fast as fp32", "MB")


def make_table(results: dict) -> str:
    """Markdown, a table a graph."""
    parts = []
    for graph in GRAPHS:
        own = [name for name, row in results["variants"].items() if row["graph"] == graph]
        if not own:
            continue
        fp32 = results["times"].get(f"{graph}/fp32", {})
        row = results["variants"][own[0]]
        lines = [("fp32", f"{row['dice'] - row['gain']:.4f}", "", "", fp32.get("ms"), "", "")]
        for name in own:
            row, timed = results["variants"][name], ("", "")
            if time := results["times"].get(name):
                least, middle, most = time["times_as_fast"]
                timed = (f"{time['ms']:.1f}", f"{middle:.2f} ({least:.2f} to {most:.2f})")
            scores = (f"{row['dice']:.4f}", f"{row['gain']:+.4f}", f"{row['agreement']:.4f}")
            lines.append((row["title"], *scores, *timed, f"{row['bytes'] / 1e6:.1f}"))
        parts += [f"`{graph}`:", markdown_table(_COLUMNS, lines)]
    parts.append(
        f"Release {results['weights']['version']} ({results['weights']['sha256'][:12]}), {results['images']} val"
        f" images, {results['machine']}, revision {results['revision'][:12]}."
    )
    return "\n\n".join(parts) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--weights", default="embedded", help="'embedded', a release folder, or user/repo@revision")
    add("--prepared", type=Path, required=True, metavar="DIR", help="train images to calibrate on, val to judge on")
    add("--out", type=Path, required=True, metavar="DIR", help="results, table, plot, graphs; a stopped run goes on")
    add("--variants", default="", metavar="A,B", help="beginnings of names, of eval/variants.py (default all)")
    add("--images", type=int, default=8, metavar="N", help="val images a source (default %(default)s)")
    add("--rounds", type=int, default=0, metavar="N", help="turns to time the graphs in (default: none)")
    add("--threads", type=int, help="CPU threads (default: all cores)")


def run(arguments: argparse.Namespace) -> int:
    from eval.plots import plot_sensitivity

    release, out = resolve(arguments.weights), arguments.out
    names = [name for name in VARIANTS if name.startswith(tuple(arguments.variants.split(",")))]
    if not names:
        raise InputError("--variants", arguments.variants, f"beginnings of {', '.join(VARIANTS)}")
    about = {"weights": release.identity, "images_a_source": arguments.images}
    results = _read(out / "sensitivity.json", about)
    left = [name for name in names if name not in results["variants"]]
    questions = ask(release, arguments.prepared, arguments.images, arguments.threads) if left else []
    for name in left:
        variant, path = VARIANTS[name], _graph(out, name)
        built = build(variant, release, arguments.prepared, path)
        parts = Parts.open(release, arguments.threads, **{variant.graph: path})
        row = {"graph": variant.graph, "title": variant.title} | judge(variant, questions, parts) | built
        results["variants"][name] = row
        results["images"] = len(questions)
        write_results(out / "sensitivity.json", results)
        print(f"{name:40} Dice {row['dice']:.4f} ({row['gain']:+.4f})  agreement {row['agreement']:.4f}", flush=True)
    if arguments.rounds:
        results["times"] |= time_graphs(release, names, out, arguments.rounds, arguments.threads)
    results |= {"machine": machine_name(), "revision": git_revision()}
    plot_sensitivity(results, out / "sensitivity.png")
    write_measured(out, "sensitivity", results, make_table(results))
    return 0


def _read(path: Path, about: dict) -> dict:
    """What an earlier run on the same weights and images left, or nothing."""
    fresh = about | {"variants": {}, "times": {}, "images": 0}
    if not path.is_file():
        return fresh
    found = json.loads(path.read_text("utf-8"))
    if {key: found.get(key) for key in about} != about:
        raise InputError(path, "figures of other weights or images", "another --out")
    return found

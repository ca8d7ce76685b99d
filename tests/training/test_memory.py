"""The memory: its graphs against SAM2's own functions, its training really run, its export and quantization."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402

from hub import Release, resolve  # noqa: E402
from pipeline.datasets.sequences import LabelledFrames  # noqa: E402
from pipeline.errors import InputError  # noqa: E402
from pipeline.geometry import Resize  # noqa: E402
from pipeline.memory import FrameMemory, Memory, MemoryBank  # noqa: E402
from pipeline.segmenter import Embedding, Segmenter  # noqa: E402
from pipeline.training import export, train_memory  # noqa: E402
from pipeline.training.architectures import build_segmenter  # noqa: E402
from pipeline.training.calibration import Calibration  # noqa: E402
from pipeline.training.clip_cache import ABSENT, PRESENT, UNKNOWN, draw_clip, plain_clip  # noqa: E402
from pipeline.training.memory_parts import MEMORY_PARTS, SCORE_HEAD, Remembered, condition, follow, start_afresh  # noqa: E402
from pipeline.training.progress import read_weights, save_weights  # noqa: E402
from pipeline.training.quantize_graph import count_quantized, quantize_graph  # noqa: E402
from pipeline.training.recipes import RECIPES  # noqa: E402
from pipeline.training.segmenter_parts import Embedding as Features  # noqa: E402
from tests.datasets import layouts  # noqa: E402

pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("ignore")]  # sam2's packages warn a lot

SIZE, GRID, FRAMES, OBJECTS = 128, 8, 12, 3
#: Frames that are prompted, and the boxes of the objects in them.
PROMPTED = (0, 7)
BOXES = np.float32([[10, 20, 60, 90], [40, 8, 100, 50], [5, 60, 120, 125]])


def random_segmenter() -> torch.nn.Module:
    """Nothing in it is at a start value that would hide a mistake."""
    torch.manual_seed(3)
    segmenter = build_segmenter(SIZE).eval()
    with torch.no_grad():
        for name, parameter in segmenter.named_parameters():
            if not name.startswith("image_encoder.") and (parameter.ndim == 1 or "embed" in name or "tpos" in name):
                parameter.add_(0.2 * torch.randn_like(parameter))
    return segmenter


class Reference:
    """An object a row, carried through frames by SAM2Base's own functions."""

    def __init__(self, segmenter: torch.nn.Module, frames: list[tuple[torch.Tensor, ...]]):
        self.segmenter, self.frames = segmenter, frames
        self.kept: dict[str, dict] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}

    @torch.no_grad()
    def step(self, index: int, prompt: torch.Tensor | None) -> dict[str, torch.Tensor]:
        plain, *high_res = (part.expand(OBJECTS, -1, -1, -1) for part in self.frames[index])
        flat = [plain.flatten(2).permute(2, 0, 1)]
        place = [self.segmenter.image_encoder.neck.position_encoding(plain).flatten(2).permute(2, 0, 1)]
        sizes = [(GRID, GRID)]
        seen = self.segmenter._prepare_memory_conditioned_features(
            index, prompt is not None, flat, place, sizes, self.kept, num_frames=100
        )
        points = None
        if prompt is not None:
            points = {"point_coords": prompt.view(-1, 2, 2), "point_labels": torch.tensor([[2, 3]] * OBJECTS).int()}
        _, _, _, low, high, pointer, score = self.segmenter._forward_sam_heads(seen, points, None, high_res, False)
        memory, where = self.segmenter._encode_new_memory(flat, sizes, high, score, prompt is not None)
        kind = "non_cond_frame_outputs" if prompt is None else "cond_frame_outputs"
        self.kept[kind][index] = {"maskmem_features": memory, "maskmem_pos_enc": where, "obj_ptr": pointer}
        return {"seen": seen, "masks": low[:, 0], "memory": memory, "pointer": pointer, "score": score[:, 0]}


@pytest.fixture(scope="module")
def frames() -> list[tuple[torch.Tensor, ...]]:
    """Features as the encoder gives them without `no_mem_embed`, and for the decoder's two finer levels."""
    torch.manual_seed(4)
    shapes = (1, 256, GRID, GRID), (1, 32, 4 * GRID, 4 * GRID), (1, 64, 2 * GRID, 2 * GRID)
    return [tuple(torch.randn(shape) for shape in shapes) for _ in range(FRAMES)]


@pytest.fixture(scope="module")
def segmenter(frames) -> torch.nn.Module:
    """Its objects are there in all frames."""
    segmenter = random_segmenter()
    prompt, scores = torch.from_numpy(BOXES), []
    for index in PROMPTED:
        scores.append(Reference(segmenter, frames).step(index, prompt)["score"].min())
    with torch.no_grad():
        segmenter.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.add_(1e-3 - min(scores))
    return segmenter


def session_of(graph) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def graphs(segmenter) -> dict:
    made = {"mask_decoder": export.decoder_onnx(segmenter)}
    made |= {"memory_attention": export.memory_attention_onnx(segmenter)}
    return made | {"memory_encoder": export.memory_encoder_onnx(segmenter)}


def carried(graphs: dict, embeddings: list[Embedding]) -> list[dict[str, np.ndarray]]:
    """As a tracker does it."""
    decoder = Segmenter(
        None, session_of(graphs["mask_decoder"]), {"segmenter": {"input_size": SIZE, "resize": "squash"}}
    )
    memory = Memory(session_of(graphs["memory_attention"]), session_of(graphs["memory_encoder"]))
    bank, found = MemoryBank(), []
    for index, embedding in enumerate(embeddings):
        if index in PROMPTED:
            seen = np.repeat(embedding.features[0], OBJECTS, axis=0)
            decoded = decoder.decode_prompts(embedding, boxes=BOXES)
        else:
            seen = memory.condition(embedding, bank, index)
            decoded = decoder.decode_conditioned(embedding, seen)
        memory.remember(bank, embedding, index, decoded, prompted=index in PROMPTED)
        entry = bank.prompted[0] if index in PROMPTED else bank.recent[-1]
        found.append({"seen": seen, "masks": decoded.mask_logits, "score": decoded.object_scores})
        found[-1] |= {"memory": entry.memory, "pointer": entry.pointers}
    return found


@pytest.fixture(scope="module")
def embeddings(segmenter, frames) -> list[Embedding]:
    """As image_encoder.onnx gives them, with `no_mem_embed` added."""
    resize = Resize.plan(SIZE, SIZE, SIZE, "squash")
    added = segmenter.no_mem_embed.detach().view(1, -1, 1, 1)
    return [Embedding(tuple(p.numpy() for p in (plain + added, *high_res)), resize) for plain, *high_res in frames]


def test_twelve_frames_agree_with_sam2(segmenter, frames, graphs, embeddings):
    reference = Reference(segmenter, frames)
    wanted = [reference.step(n, torch.from_numpy(BOXES) if n in PROMPTED else None) for n in range(FRAMES)]
    assert all((step["score"] > 0).all() for step in wanted)
    for index, found in enumerate(carried(graphs, embeddings)):
        for name, value in wanted[index].items():
            error = np.abs(found[name] - value.numpy()).max() / max(1.0, float(value.abs().max()))
            assert error < 1e-3, (index, name, error)


@torch.no_grad()
def test_what_is_not_there_is_remembered_as_sam2_does(segmenter, frames, graphs, embeddings):
    torch.manual_seed(7)
    logits, tokens = 5 * torch.randn(OBJECTS, 4 * GRID, 4 * GRID), torch.randn(OBJECTS, 256)
    scores = torch.tensor([0.5, -0.5, -4.0])
    hidden = torch.where(scores[:, None, None] > 0, logits, -1024.0)
    high = torch.nn.functional.interpolate(hidden[:, None], (SIZE, SIZE), mode="bilinear", align_corners=False)
    flat = frames[0][0].expand(OBJECTS, -1, -1, -1).flatten(2).permute(2, 0, 1)
    wanted, _ = segmenter._encode_new_memory([flat], [(GRID, GRID)], high, scores[:, None], False)
    given = {"embedding": embeddings[0].features[0], "mask_logits": logits.numpy()}
    given |= {"mask_token": tokens.numpy(), "object_score": scores.numpy()}
    memory, pointer = session_of(graphs["memory_encoder"]).run(None, given)
    np.testing.assert_allclose(memory, wanted, atol=1e-3 * float(wanted.abs().max()))
    np.testing.assert_allclose(pointer[0], segmenter.obj_ptr_proj(tokens)[0], atol=1e-4)
    np.testing.assert_allclose(pointer[1:], segmenter.no_obj_ptr.expand(2, -1), atol=1e-6)


def test_training_follows_a_clip_as_the_graphs_do(segmenter, graphs, embeddings):
    stacked = [
        torch.from_numpy(np.stack([e.features[part] for e in embeddings], 1)).expand(OBJECTS, -1, -1, -1, -1)
        for part in range(3)
    ]
    prompts = dict.fromkeys(PROMPTED, torch.from_numpy(BOXES))
    with torch.no_grad():
        followed = follow(segmenter, Features(stacked[0], (stacked[1], stacked[2])), prompts)
    for found, decoded in zip(carried(graphs, embeddings), followed, strict=True):
        np.testing.assert_allclose(found["masks"], decoded.mask_logits, atol=1e-3 * decoded.mask_logits.abs().max())


def test_objects_do_not_depend_on_each_other(graphs, embeddings):
    quantized = session_of(dynamic(graphs["memory_attention"], "memory_attention"))
    memory, rng = Memory(quantized, None), np.random.default_rng(0)
    both, alone = MemoryBank(), MemoryBank()
    values = rng.standard_normal((2, 64, GRID, GRID), np.float32), rng.standard_normal((2, 256), np.float32)
    both.add(FrameMemory(0, *values), prompted=True)
    alone.add(FrameMemory(0, values[0][1:], values[1][1:]), prompted=True)
    together = memory.condition(embeddings[1], both, 1)
    np.testing.assert_array_equal(together[1:], memory.condition(embeddings[1], alone, 1))
    assert not np.array_equal(together[0], together[1])


def dynamic(graph, name: str):
    """The int8 graph by its recipe."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        export.save_graph(export.store_half(graph), path)
        return quantize_graph(name, path, Calibration((), {}), RECIPES["int8"][name])


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        # query, key (of memories and of pointers), value and output of two attentions and two of the MLP, in 4 layers
        pytest.param("memory_attention", 4 * 11, id="attention"),
        # image, mask, memory, two blocks of two; what works on a token an object stays float
        pytest.param("memory_encoder", 3 + 4, id="encoder"),
    ],
)
def test_linear_layers_become_int8_and_nearly_agree(graphs, name, nodes):
    made = dynamic(graphs[name], name)
    assert count_quantized(made) == nodes
    session, plain, rng = session_of(made), session_of(graphs[name]), np.random.default_rng(1)
    sides = {"N": 2, "M": 3, "P": 4}
    feed = {}
    for given in plain.get_inputs():
        shape = [sides.get(side, side) for side in given.shape]
        whole = given.type == "tensor(int64)"
        feed[given.name] = rng.integers(0, 7, shape) if whole else rng.standard_normal(shape, np.float32)
    for found, wanted in zip(session.run(None, feed), plain.run(None, feed), strict=True):
        assert np.linalg.norm(found - wanted) < 0.06 * np.linalg.norm(wanted)


def test_a_fresh_memory_hardly_changes_a_frame(frames):
    segmenter = random_segmenter()
    torch.manual_seed(6)
    # smooth, as real features are, with a mean a channel
    visions = torch.nn.functional.avg_pool2d(torch.randn(6, 256, 32, 32), 4) + torch.randn(1, 256, 1, 1)
    start_afresh(segmenter, visions)
    bank = [Remembered(0, torch.randn(2, 64, GRID, GRID), torch.randn(2, 256), True)]
    with torch.no_grad():
        seen = condition(segmenter, visions[:2], bank, 1)
    assert (seen - visions[:2]).norm() < 0.2 * visions[:2].norm()


# --- clips --------------------------------------------------------------------------------------------------------


def moving_disc(frames: int = 10, side: int = 40) -> LabelledFrames:
    """A disc that moves right, is in frames 2 to 7, and is not labelled in frame 5."""
    rows, columns = np.mgrid[:side, :side]
    masks = np.stack([(rows - 20) ** 2 + (columns - 12 - 2 * n) ** 2 < 49 for n in range(frames)])
    masks[[0, 1, 8, 9]] = False
    pixels = np.where(masks, 220, 40).astype(np.uint8)
    return LabelledFrames(pixels, masks & (np.arange(frames) != 5)[:, None, None], np.arange(frames) != 5)


@pytest.mark.parametrize("seed", range(8))
def test_a_drawn_clip_shows_the_object_first_and_its_boxes_fit(seed):
    clip = draw_clip(moving_disc(), "MRI", 128, 5, np.random.default_rng(seed))
    assert clip.images.shape == (5, 128, 128, 3)
    assert clip.state[0] == PRESENT
    for image, box, mask, state in zip(clip.images, clip.boxes, clip.masks, clip.state, strict=True):
        if state != PRESENT:
            assert not box.any()
            continue
        grid = (box / 4).round().astype(int)
        inside = mask[grid[1] : grid[3], grid[0] : grid[2]]
        assert inside.sum() > 0.9 * mask.sum()
        inner = np.kron(mask > 250, np.ones((4, 4), bool))
        if inner.any() and (mask == 0).any():
            outer = np.kron(mask == 0, np.ones((4, 4), bool))
            assert image[inner].mean() > image[outer].mean() + 40


@pytest.mark.parametrize(
    ("step", "states"),
    [
        pytest.param(1, [PRESENT, PRESENT, PRESENT, UNKNOWN, PRESENT, PRESENT], id="forwards"),
        pytest.param(-1, [PRESENT, ABSENT, ABSENT, UNKNOWN, UNKNOWN, UNKNOWN], id="backwards, past the first frame"),
        pytest.param(2, [PRESENT, PRESENT, PRESENT, ABSENT, UNKNOWN, UNKNOWN], id="every second frame, past the last"),
    ],
)
def test_a_plain_clip_starts_where_the_object_is_largest(step, states):
    assert plain_clip(moving_disc(), 128, 6, step).state.tolist() == states


# --- training -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Hippocampus volumes in the official layout: a ball a volume, two to train on and one to judge."""
    folder = tmp_path_factory.mktemp("data") / "Task04_Hippocampus"
    names = ["hippocampus_001", "hippocampus_002", "hippocampus_003"]
    x, y, z = np.mgrid[:20, :12, :18]
    for number, name in enumerate(names):
        ball = (x - 9) ** 2 + (y - 5 - number % 2) ** 2 + (z - 8) ** 2 < 20
        values = np.where(ball, 900, 300) + 40 * np.random.default_rng(number).random(ball.shape)
        layouts.save_volume(folder / "imagesTr" / f"{name}.nii.gz", values.astype(np.float32))
        layouts.save_volume(folder / "labelsTr" / f"{name}.nii.gz", ball.astype(np.uint8))
    layouts.decathlon(folder, "Hippocampus", ["MRI"], {"0": "background", "1": "Anterior", "2": "Posterior"}, names)
    layouts.save_table(folder / "splits.csv", ["volume", "split"], *zip(names, ("train", "train", "val"), strict=True))
    return folder.parent


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "segmenter.safetensors"
    save_weights(random_segmenter().state_dict(), path)
    return path


def run(*words: object) -> None:
    parser = argparse.ArgumentParser()
    train_memory.add_arguments(parser)
    train_memory.run(parser.parse_args([str(word) for word in words]))


def common(volumes, weights, out, *more: object) -> list[object]:
    words = ["--data", volumes, "--init", weights, "--out", out, "--size", SIZE, "--frames", 4, "--clips", 4]
    return [*words, "--val-sequences", 1, "--batch", 2, "--warmup", 2, "--threads", 1, *more]


@pytest.fixture(scope="module")
def trained(volumes, weights, tmp_path_factory):
    """Three steps, then three more from the checkpoint."""
    out = tmp_path_factory.mktemp("memory")
    run(*common(volumes, weights, out, "--epochs", 1, "--samples", 6))
    run(*common(volumes, weights, out, "--epochs", 2, "--samples", 6, "--resume"))
    return out


def test_only_the_memory_and_the_object_score_learn(trained, weights):
    rows = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [3, 6]
    assert all(np.isfinite(row["loss"]) for row in rows)
    ways = ("memory", "carried", "copy", "chain", "box")
    assert all(0 <= rows[-1][f"val_{way}_Task04_Hippocampus"] <= 1 for way in ways)
    before, after = read_weights(weights), read_weights(trained / "segmenter.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert all(name.startswith((*MEMORY_PARTS, SCORE_HEAD)) for name in changed)
    for part in (*MEMORY_PARTS, SCORE_HEAD):
        if part != "no_mem_pos_enc":  # of no use where `no_mem_embed` is added directly
            assert any(name.startswith(part) for name in changed), part
    assert np.load(trained / "clips" / "train" / "embedding.npy").shape == (4, 4, 256, GRID, GRID)


def test_training_goes_on_from_another_memory(volumes, weights, trained, tmp_path):
    words = common(volumes, weights, tmp_path, "--cache", trained / "clips", "--epochs", 1, "--samples", 2)
    run(*words, "--memory", trained / "segmenter.safetensors", "--lr", 1e-9)
    held, found = (read_weights(folder / "segmenter.safetensors") for folder in (trained, tmp_path))
    torch.testing.assert_close(found, held, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(lambda w, f: {"--init": None}, "--init: no weights", id="no weights"),
        pytest.param(lambda w, f: {"--data": f}, "no sequences of the train split", id="no sequences"),
        pytest.param(lambda w, f: {"--size": 200}, "--size: 200; expected a multiple of 128", id="size"),
        pytest.param(lambda w, f: {"--frames": 2}, "--frames: 2; expected 3 or more", id="frames"),
        pytest.param(lambda w, f: {"--frames": 5}, "holds clips of other weights, data or options", id="other clips"),
    ],
)
def test_what_can_not_be_trained_on_is_one_sentence(volumes, weights, trained, tmp_path, change, sentence):
    given = {"--data": volumes, "--init": weights, "--out": tmp_path, "--size": SIZE, "--frames": 4}
    given |= {"--cache": trained / "clips", **change(weights, tmp_path)}
    with pytest.raises(InputError, match=sentence):
        run(*(word for name, value in given.items() if value is not None for word in (name, value)))


# --- the release --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Release:
    base = resolve()
    config = base.config | {"segmenter": base.config["segmenter"] | {"input_size": SIZE, "mask_size": SIZE // 4}}
    out = tmp_path_factory.mktemp("exported")
    weights = {"segmenter": trained / "segmenter.safetensors"}
    return export.export_release(
        weights, out, config, version="0.0.1", trained_on={}, base=base, training_weights=False, memory=True
    )


def test_a_release_with_memory_carries_a_mask(exported, phantoms):
    segmenter = Segmenter.from_release(exported, "fp32", threads=1)
    memory, bank = Memory.from_release(exported, "fp32", threads=1), MemoryBank()
    embedding = segmenter.embed(phantoms[0])
    memory.remember(bank, embedding, 3, segmenter.decode_prompts(embedding, boxes=BOXES), prompted=True)
    seen = memory.condition(embedding, bank, 2)
    plain = segmenter.decode_conditioned(embedding, seen)
    with_boxes = segmenter.decode_conditioned(embedding, seen, BOXES)
    assert plain.mask_logits.shape == with_boxes.mask_logits.shape == (OBJECTS, SIZE // 4, SIZE // 4)
    assert plain.mask_tokens.shape == (OBJECTS, 256)
    assert not np.array_equal(plain.mask_logits, with_boxes.mask_logits)


@pytest.mark.parametrize("memory", [True, False])
def test_memory_graphs_stay_with_their_segmenter(exported, random_weights, trained, tmp_path, memory):
    """A new detector leaves them where they are; a new segmenter without memory takes them away."""
    new = {"detector": random_weights["detector"]} if memory else {"segmenter": trained / "segmenter.safetensors"}
    config = exported.config | {"detector": exported.config["detector"] | {"input_size": 320}}
    release = export.export_release(
        new, tmp_path, config, version="0.0.2", trained_on={}, base=exported, training_weights=False
    )
    assert export.memory_graphs_in(release) == (export.MEMORY_GRAPHS if memory else ())
    assert (Memory.from_release(release, "fp32") is not None) == memory


def test_memory_needs_new_segmenter_weights(tmp_path):
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    words = ["--base", "embedded", "--memory", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match="--memory: no new segmenter to take it from"):
        export.run(parser.parse_args(words))

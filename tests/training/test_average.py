"""The mean of several trainings' weights."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from pipeline import cli  # noqa: E402
from pipeline.training.progress import read_weights, save_weights  # noqa: E402

pytestmark = pytest.mark.training


def write(path, value: float, run: str, shape=(2, 3)):
    path.parent.mkdir()
    save_weights({"weight": torch.full(shape, float(value)), "count": torch.tensor(int(value))}, path)
    runs = [{"command": "first", "minutes": 1.0}, {"command": run, "minutes": 2.0}]
    path.with_suffix(".json").write_text(json.dumps(runs), "utf-8")
    path.with_name("log.jsonl").write_text(f'{{"loss": {value}}}\n', "utf-8")
    return path


def test_mean_of_two_trainings(tmp_path, capsys):
    files = [write(tmp_path / name / "net.safetensors", value, name) for name, value in (("a", 1), ("b", 4))]
    out = tmp_path / "mean" / "net.safetensors"
    assert cli.main(["average", *map(str, files), "--out", str(out)]) == 0
    assert "the mean of 2" in capsys.readouterr().out
    mean = read_weights(out)
    assert mean["weight"].tolist() == [[2.5] * 3] * 2 and mean["count"] == 1
    runs = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert [run["command"] for run in runs[:3]] == ["first", "a", "b"] and len(runs) == 4
    assert (out.parent / "log.jsonl").read_text("utf-8") == '{"loss": 4}\n'


@pytest.mark.parametrize(
    ("shape", "out", "says"),
    [
        pytest.param((3, 2), "mean.safetensors", "not the tensors of net.safetensors", id="another-network"),
        pytest.param((2, 3), "mean.pt", "a name that ends in .safetensors", id="a-pickle"),
    ],
)
def test_what_has_no_mean(tmp_path, capsys, shape, out, says):
    files = [
        write(tmp_path / "a" / "net.safetensors", 1, "a"),
        write(tmp_path / "b" / "net.safetensors", 2, "b", shape),
    ]
    assert cli.main(["average", *map(str, files), "--out", str(tmp_path / out)]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / out).exists()

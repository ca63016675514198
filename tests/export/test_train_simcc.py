"""simcc_tiny: what it learns from, that it learns, and what its script leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from edgepose.export.drawn.person import KEYPOINTS, Person  # noqa: E402
from edgepose.export.training import train as common  # noqa: E402
from edgepose.export.training import train_simcc as script  # noqa: E402
from edgepose.export.training.simcc import loss_of, targets  # noqa: E402
from edgepose.export.training.train_simcc import INPUT_HW, SPEC, make_batch, make_network, take_trunk  # noqa: E402
from edgepose.files import sha256_of  # noqa: E402
from edgepose.model.heads.simcc import SimCC  # noqa: E402
from edgepose.model.passport import read_passport  # noqa: E402
from edgepose.stages.simcc import decode_simcc  # noqa: E402
from tests.export.test_training import some_people, write_part  # noqa: E402

HEAD = SimCC(split_ratio=2.0, sigma=(3.46, 4.0))


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("people", [0, 1, 3])
def test_the_decoder_finds_in_the_targets_the_key_points_they_were_drawn_for(people):
    rng = np.random.default_rng(0)
    keypoints = np.ones((people, 5, 3))
    keypoints[..., :2] = rng.integers(0, 180, (people, 5, 2)) / 2  # px; on the bins, of which a px has two

    x, y, weights = targets(keypoints, HEAD, INPUT_HW)

    assert x.shape == (people, 5, 192)
    assert y.shape == (people, 5, 256)
    assert np.array_equal(decode_simcc(x, y, HEAD)[..., :2], keypoints[..., :2])
    assert (weights == 1).all()


def test_unlabelled_key_points_teach_nothing_and_right_vectors_cost_nothing():
    x, y, _ = (
        torch.from_numpy(values) for values in targets(np.array([[[20.0, 30.0, 1], [70.0, 9.0, 1]]]), HEAD, INPUT_HW)
    )
    wrong = (x.clone(), y.clone())
    wrong[0][0, 1] = 0

    assert loss_of((x, y), (x, y), torch.ones(1, 2)).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(wrong, (x, y), torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(wrong, (x, y), torch.tensor([[0.0, 1.0]])).item() > 1
    assert loss_of(wrong, (x, y), torch.zeros(1, 2)).item() == 0


def test_steps_on_one_batch_lower_its_loss():
    torch.manual_seed(0)
    network = make_network(len(KEYPOINTS)).train()
    take_trunk(network)
    crops, wanted, weights = make_batch(some_people(4), [], np.random.default_rng(0))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)

    losses = []
    for _ in range(8):
        loss = loss_of(network(crops), wanted, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    assert losses[-1] < 0.9 * losses[0]


def test_the_trunk_comes_from_the_heat_map_network_and_the_head_does_not():
    network = make_network(17)
    before = {key: value.clone() for key, value in network.state_dict().items()}

    take_trunk(network)

    theirs = torch.load(script.TRUNK, weights_only=True)
    after = network.state_dict()
    assert torch.equal(after["conv1.weight"], theirs["conv1.weight"].float())
    assert torch.equal(after["final_layer.weight"], before["final_layer.weight"])
    assert torch.equal(after["cls_x.weight"], before["cls_x.weight"])


def test_the_network_costs_no_more_than_the_heat_map_network_of_its_size():
    from torch.utils.flop_counter import FlopCounterMode

    network = make_network(17).eval()

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        x, y = network(torch.zeros(1, 3, *INPUT_HW))

    about = json.loads(script.TRUNK.with_suffix(".json").read_text())
    assert counter.get_total_flops() / 1e9 < about["gflops"]
    assert {"simcc_x": tuple(x.shape[1:]), "simcc_y": tuple(y.shape[1:])} == SPEC.head.outputs(SPEC)


def test_the_script_leaves_weights_and_their_accuracy_on_held_out_people(tmp_path, monkeypatch):
    for part in script.PARTS:
        write_part(tmp_path / part.folder, some_people(24))
    far = Person(
        np.full((80, 80, 3), 90, np.uint8), np.zeros((len(KEYPOINTS), 3)), np.array([200.0, 200.0, 210.0, 210.0])
    )
    write_part(tmp_path / "calib_coco", [far], "person_boxes.json")
    monkeypatch.setattr(common, "DRAWN_PEOPLE", 2)
    out = tmp_path / "out"

    result = CliRunner().invoke(script.main, ["--data", str(tmp_path), "--out", str(out), "--epochs", "1"])

    assert result.exit_code == 0, result.output
    about = json.loads((out / "simcc_tiny.json").read_text())
    assert about["epochs"] == "1 of 1"
    assert about["sha256"] == sha256_of(out / "simcc_tiny.pth")
    assert (out / "simcc_tiny.pth").stat().st_size < 3.2e6
    assert read_passport(out / "simcc_tiny.onnx").spec == SPEC
    assert set(about["held_out"]) == {"lsp", "coco"}

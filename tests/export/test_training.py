"""Training of the networks in the package: what it learns from, step by step, and what is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from edgepose.export.drawn.person import KEYPOINTS, Person  # noqa: E402
from edgepose.export.drawn.rendered import draw_people  # noqa: E402  # noqa: E402
from edgepose.export.training import train as script  # noqa: E402  # noqa: E402
from edgepose.export.training.data import CLOSE_WEIGHT, MIRROR_ORDER, is_held_out, targets, vary, vary_close  # noqa: E402
from edgepose.export.training.train import (  # noqa: E402
    Average,
    loss_of,
    make_batch,
    recipe,
    shipped_state,
    train,
)
from edgepose.export.training.trainees import TRAINEES  # noqa: E402  # noqa: E402
from edgepose.export.zoo.model import WEIGHTS  # noqa: E402  # noqa: E402
from edgepose.files import sha256_of  # noqa: E402  # noqa: E402
from edgepose.model.skeletons import COCO17  # noqa: E402  # noqa: E402

TINY, TWO_PASS = TRAINEES["simplebaseline_tiny"], TRAINEES["efficient_object_localization"]
SPEC = TINY.spec


@pytest.fixture(autouse=True)
def _one_thread():
    """Small batches are slower with more, and sums then depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def dotted_person(index: int, at: tuple[int, int]) -> Person:
    """A dark picture with a bright disc where one key point is."""
    image = np.full((200, 150, 3), 30, np.uint8)
    cv2.circle(image, at, 5, (255, 255, 255), -1)
    keypoints = np.zeros((len(KEYPOINTS), 3))
    keypoints[index] = (*at, 2)
    return Person(image, keypoints, np.array([10.0, 10.0, 140.0, 190.0]))


def some_people(count: int = 40) -> list[Person]:
    rng = np.random.default_rng(0)
    pose = np.zeros((len(KEYPOINTS), 3))
    pose[:, 2] = 2
    pose[:, :2] = rng.uniform(20, 150, (len(KEYPOINTS), 2))
    background = rng.integers(0, 255, (160, 160, 3), dtype=np.uint8)
    return draw_people([pose], [background], count, rng)


def test_the_split_is_by_the_name_of_the_image_and_never_changes():
    assert [number for number in range(1, 9) if is_held_out(f"lsp_im{number:04}.jpg", 0.2)] == [5]
    assert not any(is_held_out(f"{number}.jpg", 0.0) for number in range(50))
    assert all(is_held_out(f"{number}.jpg", 1.0) for number in range(50))


def test_a_variation_keeps_the_label_on_the_picture():
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(200):
        crop, keypoints = vary(dotted_person(KEYPOINTS.index("nose"), (80, 60)), SPEC, rng)
        x, y, labelled = keypoints[KEYPOINTS.index("nose")]
        if not labelled:
            continue
        grey = crop.astype(np.float32).mean(axis=2)
        around = grey[max(0, int(y) - 4) : int(y) + 5, max(0, int(x) - 4) : int(x) + 5]
        seen += around.max() > np.median(grey) + 40
    assert seen > 140  # the rest lies under a rectangle that hides it


def test_mirroring_swaps_the_names_of_the_sides():
    rng = np.random.default_rng(2)
    left, right = KEYPOINTS.index("left_wrist"), KEYPOINTS.index("right_wrist")
    person = dotted_person(left, (40, 100))  # in the picture's left half

    labels = [vary(person, SPEC, rng)[1][[left, right], 2] for _ in range(60)]

    assert {tuple(pair) for pair in labels} >= {(1.0, 0.0), (0.0, 1.0)}
    assert [MIRROR_ORDER[i] for i in MIRROR_ORDER] == list(range(len(KEYPOINTS)))


def test_a_close_crop_is_twice_as_near_and_teaches_one_key_point():
    rng = np.random.default_rng(3)
    person = dotted_person(KEYPOINTS.index("nose"), (80, 60))
    person.keypoints[KEYPOINTS.index("neck")] = (85, 80, 2)
    bright: dict[str, list[int]] = {"whole": [], "close": []}
    near = 0
    for _ in range(100):
        for name, function in (("whole", vary), ("close", vary_close)):
            crop, keypoints = function(person, TWO_PASS.spec, rng)
            grey = crop.astype(np.float32).mean(axis=2)
            bright[name].append(int((grey > np.median(grey) + 60).sum()))
        taught = keypoints[keypoints[:, 2] > 0]
        assert len(taught) <= 1
        assert (taught[:, 2] == CLOSE_WEIGHT).all()
        near += bool(len(taught) and np.abs(taught[0, :2] - 64).max() < 45)
    assert near > 90
    assert np.median(bright["close"]) > 2.5 * np.median(bright["whole"])  # in area


def test_targets_peak_where_the_key_points_are():
    keypoints = np.zeros((1, len(KEYPOINTS), 3), np.float32)
    keypoints[0, 3] = (41, 61, 1)

    maps, weights = targets(keypoints, SPEC)

    y, x = np.unravel_index(int(maps[0, 3].argmax()), SPEC.heatmaps.size_hw)
    assert (x, y) == (10, 15)  # 41 / 4 and 61 / 4, to the nearest
    assert weights[0].tolist() == [float(i == 3) for i in range(len(KEYPOINTS))]


def test_unlabelled_key_points_teach_nothing():
    heatmaps = torch.zeros(1, 2, 4, 4)
    maps = torch.zeros(1, 2, 4, 4)
    maps[0, 1] = 1

    assert loss_of(heatmaps, maps, torch.tensor([[1.0, 0.0]])) == 0
    assert loss_of(heatmaps, maps, torch.tensor([[0.0, 1.0]])) > 0


@pytest.mark.parametrize("trainee", TRAINEES.values(), ids=TRAINEES)
def test_steps_on_one_batch_lower_its_loss(trainee):
    torch.manual_seed(0)
    network = trainee.make(len(KEYPOINTS)).train()
    batch = make_batch(some_people(4), trainee.spec, [], np.random.default_rng(0))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)

    losses = []
    for _ in range(6):
        loss = loss_of(network(batch[0]), batch[1], batch[2])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())

    assert losses[-1] < 0.9 * losses[0]


def test_training_hands_over_a_network_after_each_epoch_and_repeats_itself():
    runs = []
    for _ in range(2):
        kept: list[tuple[dict[str, torch.Tensor], int]] = []
        train(
            TINY,
            some_people(),
            [],
            epochs=2,
            seed=3,
            keep=lambda network, losses, kept=kept: kept.append(
                ({key: value.clone() for key, value in network.state_dict().items()}, len(losses))
            ),
        )
        runs.append(kept)

    assert [count for _, count in runs[0]] == [1, 2]
    assert all(torch.equal(value, runs[1][1][0][key]) for key, value in runs[0][1][0].items())


def test_the_average_follows_the_weights():
    network = TINY.make(len(KEYPOINTS))
    average = Average(network)
    with torch.no_grad():
        network.final_layer.bias.fill_(1.0)

    for _ in range(50):
        average.update(network)

    assert (average.network.final_layer.bias > 0.9).all()


@pytest.mark.parametrize("trainee", TRAINEES.values(), ids=TRAINEES)
def test_what_is_shipped_has_cocos_channels_in_half_precision(trainee):
    state = shipped_state(trainee.make(len(KEYPOINTS)))

    assert state["final_layer.weight"].shape[0] == state["final_layer.bias"].shape[0] == len(COCO17)
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    trainee.make(len(COCO17)).load_state_dict(state)


@pytest.mark.parametrize("trainee", TRAINEES.values(), ids=TRAINEES)
def test_the_recipe_states_what_the_network_costs(trainee):
    about = recipe(trainee, {"lsp": 1}, [1.0], {})

    assert about["params"] == sum(value.numel() for value in trainee.make(len(COCO17)).parameters())
    assert 0.1 < about["gflops"] < 1


def write_part(folder: Path, people: list[Person], boxes_file: str = "person_keypoints.json") -> None:
    """Photographs and annotations as the training script finds them; every picture has one person."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i, person in enumerate(people, start=1):
        cv2.imwrite(str(folder / f"images/{i}.png"), person.image)
        height, width = person.image.shape[:2]
        images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
        left, top, right, bottom = person.box_xyxy.tolist()
        box = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top), "iscrowd": 0}
        points = {"keypoints": person.keypoints.ravel().tolist(), "num_keypoints": len(KEYPOINTS)}
        annotations.append({"id": i, "image_id": i, "category_id": 1, **box, **points})
    categories = [{"id": 1, "name": "person", "keypoints": list(KEYPOINTS)}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / boxes_file).write_text(json.dumps(content))


@pytest.mark.parametrize("name", TRAINEES)
def test_the_script_leaves_weights_and_a_recipe_with_the_accuracy_on_held_out_people(tmp_path, monkeypatch, name):
    people = some_people(24)
    for part in script.PARTS:
        write_part(tmp_path / part.folder, people)
    empty = np.full((80, 80, 3), 90, np.uint8)
    far = Person(empty, np.zeros((len(KEYPOINTS), 3)), np.array([200.0, 200.0, 210.0, 210.0]))
    write_part(tmp_path / "calib_coco", [far], "person_boxes.json")
    monkeypatch.setattr(script, "DRAWN_PEOPLE", 2)
    out = tmp_path / "out"

    result = CliRunner().invoke(
        script.main, ["--model", name, "--data", str(tmp_path), "--out", str(out), "--epochs", "1"]
    )

    assert result.exit_code == 0, result.output
    about = json.loads((out / f"{name}.json").read_text())
    held_out = {
        part.folder: sum(is_held_out(f"{i}.png", part.held_out) for i in range(1, len(people) + 1))
        for part in script.PARTS
    }
    assert about["data"]["people"] == {
        **{name: len(people) - count for name, count in held_out.items()},
        "drawn": 2,
    }
    assert {name: figures["people"] for name, figures in about["held_out"].items()} == {
        name: count for name, count in held_out.items() if count
    }
    assert about["sha256"] == sha256_of(out / f"{name}.pth")


@pytest.mark.parametrize("trainee", TRAINEES.values(), ids=TRAINEES)
def test_the_packaged_weights_are_those_of_their_recipe(trainee):
    weights = WEIGHTS / f"{trainee.spec.name}.pth"
    about = json.loads(weights.with_suffix(".json").read_text())

    state = torch.load(weights, weights_only=True)

    assert weights.stat().st_size <= 4 * 2**20
    assert about["sha256"] == sha256_of(weights)
    assert about["training"]["epochs"] == f"{trainee.epochs} of {trainee.epochs}"
    assert sum(value.numel() for key, value in trainee.make(len(COCO17)).named_parameters()) == about["params"]
    trainee.make(len(COCO17)).load_state_dict(state)

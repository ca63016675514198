"""Bottom-up people of several videos, whose network is a list of drawn frames."""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from edgepose.benchmarks.studies.drawn_crowds import COCO17_OF_18, draw_fields, draw_maps, draw_people, draw_tags
from edgepose.estimate.follow import Following
from edgepose.estimate.whole import WholeFollowers
from edgepose.model.heads.fields import Fields
from edgepose.model.heads.tags import Tags
from edgepose.model.skeletons import COCO17, OPENPOSE18
from edgepose.model.spec import Input, ModelSpec

MAP_HW = (96, 160)
SPEC = ModelSpec("drawn", Input(MAP_HW, resize="plain"), Fields(MAP_HW, upsample=1), OPENPOSE18)
PICTURE = np.zeros((*MAP_HW, 3), np.uint8)


class Film:
    """A network that finds, run after run, a person of the same shape around the next places (x, y)."""

    def __init__(self, frames: Sequence[Sequence[tuple[float, float]]]) -> None:
        self.passport = SimpleNamespace(spec=SPEC)
        self.frames = iter(frames)

    def run(self, inputs):
        rng = np.random.default_rng(3)
        shape = draw_people(1, MAP_HW, rng, height=60)[0]
        middles = np.array(next(self.frames), float).reshape(-1, 1, 2)
        points = shape - shape.mean(axis=0) + middles
        heatmaps, drawn = draw_maps(points, MAP_HW, rng, missing=0)
        maps = np.concatenate([heatmaps, np.zeros((1, *MAP_HW), np.float32)])
        return {"heatmaps": maps[None], "pafs": draw_fields(points, drawn, MAP_HW, rng)[None]}


def follow(followers: WholeFollowers, frames: int) -> list:
    return [followers.take([(0, PICTURE, frame / 10)])[0] for frame in range(frames)]


def test_frames_without_people_have_no_ids():
    followers = WholeFollowers(Film([[], []]), 1)

    for poses in follow(followers, 2):
        assert poses.xy.shape == (0, 18, 2)
        assert poses.track_ids.shape == (0,)


def test_two_people_who_walk_keep_their_ids_through_a_frame_that_misses_one():
    places = [[(40 + 3 * t, 48), (120 - 3 * t, 48)] for t in range(6)]
    places[3] = places[3][:1]

    left = [poses.xy[poses.track_ids == 1, :, 0].mean() for poses in follow(WholeFollowers(Film(places), 1), 6)]
    counts = [poses.track_ids.tolist() for poses in follow(WholeFollowers(Film(places), 1), 6)]

    assert [sorted(ids) for ids in counts] == [[1, 2], [1, 2], [1, 2], [1], [1, 2], [1, 2]]
    # 3 px a frame; key points are found to the nearest pixel
    assert np.abs(np.diff(left) - np.diff(left).mean()).max() < 1


def test_faint_people_have_ids_too():
    points = draw_people(1, MAP_HW, np.random.default_rng(1), height=60)[:, COCO17_OF_18]
    heatmaps, drawn = draw_maps(points, MAP_HW, np.random.default_rng(1), missing=0)
    maps = {"heatmaps": 0.2 * heatmaps[None], "tags": draw_tags(points, drawn, MAP_HW, np.random.default_rng(1))[None]}
    spec = ModelSpec("faint", Input(MAP_HW, resize="plain"), Tags(MAP_HW), COCO17)
    network = SimpleNamespace(passport=SimpleNamespace(spec=spec), run=lambda _: maps)

    (poses,) = follow(WholeFollowers(network, 1), 1)

    assert poses.box_scores[0] < 0.4  # what a detected box needs to be somebody new
    assert poses.track_ids.tolist() == [1]


def test_each_video_has_ids_of_its_own():
    followers = WholeFollowers(Film([[(40, 48)], [(100, 48)]]), 2)

    first, second = followers.take([(0, PICTURE, 0.0), (1, PICTURE, 0.0)])

    assert (first.track_ids.tolist(), second.track_ids.tolist()) == ([1], [1])


@pytest.mark.parametrize("smooth", [False, True])
def test_smoothing_moves_points_between_where_they_were_and_are(smooth):
    followers = WholeFollowers(Film([[(40, 48)], [(50, 48)]]), 1, Following(smooth=smooth))

    before, after = follow(followers, 2)

    moved = np.nanmean(after.xy[..., 0]) - np.nanmean(before.xy[..., 0])
    assert (0 < moved < 9) if smooth else (9 <= moved <= 11)


def test_without_tracking_there_are_no_ids():
    (poses,) = follow(WholeFollowers(Film([[(40, 48)]]), 1, Following(track=False)), 1)

    assert poses.track_ids is None
    assert poses.box_scores[0] > 1  # the network's own score, a sum

"""Motions as tracks with positions, for `edgepose evaluate --annotations-3d` and `edgepose calibrate`.

python -m edgepose.export.training.motion_tracks --motions FILE.npz --out FILE.json
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from edgepose.export.training.motions import HELD_OUT, Motion, detected, read_motions, seen_from
from edgepose.files import write_json
from edgepose.model.skeletons import BODY15

WH, FOCAL_PX, FRAMES_A_SECOND = (1280, 720), 700.0, 30
DETECTOR_ERROR = 0.65  # see motions.detected


def tracks_of(motions: Sequence[Motion], *, cameras: int, error: float, seed: int) -> dict[str, Any]:
    """Each motion seen by some random cameras, each a video of its own with one track, as `io.tracks` reads them."""
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for video in range(cameras * len(motions)):
        motion = motions[video // cameras]
        times = np.arange(0, motion.length_s, 1 / FRAMES_A_SECOND)
        camera = seen_from(motion.at(times)[None], rng)
        points = detected(camera, np.array([error]), rng)[0] * FOCAL_PX + np.array(WH) / 2
        for frame in range(len(times)):
            place = {"video_id": video, "frame_id": frame, "file_name": f"{motion.name}/{video}/{frame}"}
            images.append({"id": len(images), **place, "width": WH[0], "height": WH[1]})
            keypoints = np.concatenate([points[frame], np.full((len(BODY15), 1), 2.0)], axis=1)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": images[-1]["id"],
                    "category_id": 1,
                    "track_id": 0,
                    "keypoints": keypoints.ravel().round(3).tolist(),
                    "keypoints_3d": camera[0, frame].ravel().round(5).tolist(),
                }
            )
    names = list(BODY15.keypoints)
    person = {"id": 1, "name": "person", "keypoints": names, "keypoints_3d": names}
    return {"images": images, "categories": [person], "annotations": annotations}


@click.command()
@click.option("--motions", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--trained-on", is_flag=True, help="The motions that the embedded lifter was trained on, not the others.")
@click.option("--cameras", type=click.IntRange(1), default=8, show_default=True, help="A motion.")
@click.option("--error", type=float, default=DETECTOR_ERROR, show_default=True, help="Of the detector; 0 is exact.")
@click.option("--seed", type=int, default=1, show_default=True)
def main(file: Path, out: Path, trained_on: bool, cameras: int, error: float, seed: int) -> None:
    """Write motions as tracks, seen by made-up cameras and a made-up detector."""
    motions = [motion for motion in read_motions(file) if (motion.name not in HELD_OUT) == trained_on]
    write_json(out, tracks_of(motions, cameras=cameras, error=error, seed=seed))
    click.echo(f"wrote {cameras * len(motions)} tracks of {', '.join(motion.name for motion in motions)} to {out}")


if __name__ == "__main__":
    main()

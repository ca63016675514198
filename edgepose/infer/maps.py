"""From image and video files to the key points of all people in them, by a bottom-up network: no boxes, no detector."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgepose.backends.runtime import Runtime
from edgepose.errors import EdgeposeError, InputError
from edgepose.estimate.bottom_up import estimate_people, head_of
from edgepose.infer.report import STAGES, InferReport, check_something_read, open_results, saying_how_far
from edgepose.infer.targets import image_ids, overlay_targets
from edgepose.io.boxes import ImageBoxes, boxes_for_images
from edgepose.io.images import write_image
from edgepose.io.keypoints import WriteRecord, scored_people
from edgepose.io.overlay import draw_poses
from edgepose.io.people import read_picture
from edgepose.io.video import VIDEO_SUFFIXES, VideoReader, VideoWriter, video_file
from edgepose.stages.poses import Poses
from edgepose.timing import StageTimes
from edgepose.watching import Watch, unwatched


def infer_maps(
    runtime: Runtime,
    inputs: Sequence[Path],
    *,
    folder: Path | None = None,
    stream: TextIO | None = None,
    table: bool = False,
    flip_test: bool = False,
    save_overlays: bool = True,
    watch: Watch = unwatched,
) -> InferReport:
    """Find the key points of every person in images and videos; images first, then videos.

    Args:
        runtime: from `load_runtime`, of a bottom-up network.
        inputs: image files, and videos (by their suffix).
        folder, stream, table, save_overlays: as `infer` takes them.
        flip_test: see `estimate_people`.
        watch: sees each step's items pass, with their name and count, for a progress bar.

    Raises:
        InputError: an overlay would replace an input; or none of the inputs can be read. Single unreadable files are
            reported instead.
        ModelFileError: the network finds something else, or there is no flip test of its head.
        OSError: the folder or stream cannot be written. No half-written file is left.
    """
    videos = [path for path in inputs if path.suffix.lower() in VIDEO_SUFFIXES]
    entries = boxes_for_images([path for path in inputs if path.suffix.lower() not in VIDEO_SUFFIXES], None)
    ids = image_ids(entries, None)
    targets = overlay_targets(inputs, folder / "overlays") if folder and save_overlays else {}
    spec = runtime.passport.spec
    head_of(spec)
    estimate_people(runtime, np.zeros((*spec.image.size_hw, 3), np.uint8), flip_test=flip_test)  # the first run is slow
    report = InferReport(network=f"{runtime.arithmetic} ({runtime.name})")
    with ExitStack() as stack:
        names = spec.skeleton.keypoints
        write = open_results(stack, report, names, folder=folder, stream=stream, table=table)
        run = _Run(runtime, write, flip_test, report, StageTimes())
        with saying_how_far(report):
            for entry in watch("images", entries, len(entries)):
                run.image(entry, ids[entry.path], targets.get(entry.path))
            for path in videos:
                run.video(path, targets.get(path), watch)
        check_something_read(report, len(inputs))
    report.seconds = {name: run.times.seconds[name] for name in STAGES if name in run.times.seconds}
    return report


@dataclass
class _Run:
    """One run over all inputs: the loop's body, with what it counts."""

    runtime: Runtime
    write: WriteRecord
    flip_test: bool
    report: InferReport
    times: StageTimes

    def image(self, entry: ImageBoxes, image_id: int | str, target: Path | None) -> None:
        """Read one image, find its people, write them and their overlay."""
        try:
            with self.times.stage("read"):
                image, turned = read_picture(entry)
        except InputError as error:
            self._unreadable(entry.path, error)
            return
        poses = self._people(image, entry.path, {"image_id": image_id})
        self.report.turned += turned
        if target is None:
            return
        try:
            drawn = self._drawn(image, poses)
            with self.times.stage("write"):
                write_image(target, drawn)
        except EdgeposeError as error:  # too large for its format, say; its key points are kept
            self.report.unreadable.append(str(error))
            return
        self.report.overlays.append(target)

    def video(self, path: Path, target: Path | None, watch: Watch) -> None:
        """Read one video, find the people of each frame, write them and the overlay video."""
        try:
            reader = VideoReader(path)
        except InputError as error:
            self._unreadable(path, error)
            return
        overlay: VideoWriter | None = None
        with closing(reader), ExitStack() as stack:
            try:
                for index, frame in enumerate(watch(path.name, reader, reader.length)):
                    poses = self._people(frame, path, {"image_id": f"{path.name}/{index}", "frame": index})
                    if target is not None:
                        drawn = self._drawn(frame, poses)
                        with self.times.stage("write"):
                            overlay = overlay or stack.enter_context(video_file(target, reader.fps))
                            overlay.write(drawn)
            except InputError as error:  # a video that ends early; what was found is kept
                self._unreadable(path, error)
        if overlay is not None and target is not None:
            self.report.overlays.append(target)

    def _people(self, image: np.ndarray, path: Path, identity: dict[str, Any]) -> Poses:
        """Find, write and count an image's people."""
        height, width = image.shape[:2]
        with self.times.stage("network+decode"):
            poses, scores = estimate_people(self.runtime, image, flip_test=self.flip_test)
        with self.times.stage("write"):
            people = scored_people(poses, scores)
            self.write({**identity, "file_name": str(path), "width": width, "height": height, "people": people})
        self.report.images += 1
        self.report.people += len(poses)
        return poses

    def _drawn(self, image: np.ndarray, poses: Poses) -> np.ndarray:
        """A key point that is there has been over the network's own threshold, so all are drawn."""
        with self.times.stage("draw"):
            return draw_poses(image, poses, self.runtime.passport.spec.skeleton, min_score=1e-6)

    def _unreadable(self, path: Path, error: InputError) -> None:
        self.report.unreadable.append(str(error))
        self.write({"file_name": str(path), "error": str(error)})

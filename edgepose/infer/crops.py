"""Images, videos and sources to key points, by a network that looks at one person a crop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgepose.backends import Backend
from edgepose.errors import EdgeposeError, InputError
from edgepose.estimate.detect import Detector, find_people
from edgepose.estimate.follow import MIN_SCORE, Followers, Following
from edgepose.estimate.lift import Lifter
from edgepose.estimate.lift_live import LiveLifter
from edgepose.estimate.lift_records import RecordLifter, lifted
from edgepose.estimate.top_down import estimate_frames, estimate_poses
from edgepose.infer.report import STAGES, InferReport, check_something_read, open_results, saying_how_far
from edgepose.infer.stream import LiveOutput, SourceReport, watch_sources
from edgepose.infer.targets import image_ids, overlay_targets, source_overlays
from edgepose.io.boxes import ImageBoxes, boxes_for_images, boxes_of_frames
from edgepose.io.images import write_image
from edgepose.io.keypoints import WriteRecord, people_of
from edgepose.io.overlay import draw_poses
from edgepose.io.people import PeopleBoxes, read_picture, usable_people
from edgepose.io.sources import FileSource, Source
from edgepose.io.space import add_positions, find_matplotlib, with_positions
from edgepose.io.video import VIDEO_SUFFIXES, VideoReader, VideoWriter, video_file
from edgepose.io.watching import Watch, unwatched
from edgepose.stages.frames import Frame, hw_of
from edgepose.stages.poses import Poses
from edgepose.timing import StageTimes, measured


def infer(
    backend: Backend,
    inputs: Sequence[Path],
    *,
    boxes_file: Path | None = None,
    detector: Detector | None = None,
    min_box_score: float = -math.inf,
    following: Following | None = None,
    sources: Sequence[Source] = (),
    live: LiveOutput | None = None,
    folder: Path | None = None,
    stream: TextIO | None = None,
    table: bool = False,
    flip_test: bool = False,
    save_overlays: bool = True,
    lifter: Lifter | None = None,
    watch: Watch = unwatched,
) -> InferReport:
    """Find the key points of every person in images and videos; images first, then videos.

    Args:
        backend: from `load_backend`.
        inputs: image files, and videos (by their suffix).
        boxes_file: see `boxes_for_images`; for a video its image_id is the frame's number, from 0.
            None: the detector finds them; without one each image or frame is one person.
        detector: finds people where there is no boxes file, and follows them through videos and `sources`.
        min_box_score: boxes of a lower score are left out.
        following: how people are followed.
        sources: videos, cameras and streams, all at once, after the inputs; they need the detector.
        live: where their pictures are shown, and how long they are watched.
        folder: where keypoints.json (COCO results; only without a stream) and overlays/ go; None: no files.
        stream: gets one JSON object a line for each image or frame, as it is done, unreadable files included.
        table: the stream gets CSV instead, a line for each person.
        flip_test: average with the mirrored crop.
        save_overlays: write annotated copies into the folder.
        lifter: adds positions in space to every person; a video's records are then written when it has ended.
        watch: sees each step's items pass, with their name and count, for a progress bar.

    Raises:
        InputError: the boxes file cannot be read or fits other images; an overlay would replace an input; or none
            of the inputs can be read. Single unreadable files are reported instead.
        OSError: the folder or stream cannot be written. No half-written file is left.
        KeyboardInterrupt: interrupted.

    What ends the run after its first image says how far it came; what was found lies in keypoints.partial.json.
    """
    videos = [path for path in inputs if path.suffix.lower() in VIDEO_SUFFIXES]
    images = [path for path in inputs if path.suffix.lower() not in VIDEO_SUFFIXES]
    if boxes_file is not None and len(videos) > 1:
        raise InputError(f"{boxes_file}: boxes fit one video, {len(videos)} were given: infer them one by one")
    entries = boxes_for_images(images, boxes_file, min_score=min_box_score)
    ids = image_ids(entries, boxes_file)
    targets = overlay_targets(inputs, folder / "overlays") if folder and save_overlays else {}
    backend.warm_up(flip_test=flip_test)
    report = InferReport(network=f"{backend.arithmetic} ({backend.name})")
    with ExitStack() as stack:
        times = stack.enter_context(measured())
        write = open_results(stack, report, backend.spec, lifter, folder=folder, stream=stream, table=table)
        space = None
        if lifter is not None and backend.spec.gives_depth:
            raise ValueError(f"{backend.spec.name} finds positions in space itself: no lifter is wanted")
        drawn = targets or (sources and folder and save_overlays)
        if drawn and (lifter is not None or backend.spec.gives_depth):
            find_matplotlib()  # missed now, not after the work
        if lifter is not None:
            skeleton = backend.spec.skeleton
            space = write = stack.enter_context(lifted(write, lifter, skeleton, flip_test=flip_test))
        run = _Run(backend, times, write, flip_test, min_box_score, report, space, detector, following)
        with saying_how_far(report):
            for entry in watch("images", entries, len(entries)):
                run.image(entry, ids[entry.path], targets.get(entry.path))
            for path in videos:
                if detector is not None and boxes_file is None:
                    run.video_with_detector(path, targets.get(path), live or LiveOutput())
                else:
                    run.video(path, boxes_file, targets.get(path), watch)
            if sources:
                overlays = source_overlays(sources, folder) if folder and save_overlays else [None] * len(sources)
                run.followed(sources, overlays, live or LiveOutput())
        check_something_read(report, len(inputs) + len(sources))
    report.seconds = {name: times.seconds[name] for name in STAGES if name in times.seconds}
    return report


@dataclass
class _Run:
    """One run over all inputs: the loop's body, with what it counts."""

    backend: Backend
    times: StageTimes
    write: WriteRecord
    flip_test: bool
    min_box_score: float
    report: InferReport
    space: RecordLifter | None = None
    detector: Detector | None = None
    following: Following | None = None

    def image(self, entry: ImageBoxes, image_id: int | str, target: Path | None) -> None:
        """Read one image, find its people, write them and their overlay."""
        times = self.times
        try:
            with times.stage("read"):
                image, turned = read_picture(entry)
        except InputError as error:
            self._unreadable(entry.path, error)
            return
        if entry.boxes_xyxy is None and self.detector is not None:
            found, scores = find_people(self.detector, image, min_score=self._min_person_score)
            entry = replace(entry, boxes_xyxy=found, box_scores=scores)
        people = usable_people(image, entry)
        poses = estimate_poses(self.backend, image, people.boxes_xyxy, flip_test=self.flip_test)
        self._keep(poses, image, people, {"image_id": image_id, "file_name": str(entry.path)})
        self.report.turned += turned
        if target is not None:
            with times.stage("draw"):
                overlay = self._drawn(image, poses)
                if self.space is not None:
                    overlay = with_positions(overlay, self.space.positions[0], self.space.lifter.skeleton)
            try:
                with times.stage("write"):
                    write_image(target, overlay)
            except EdgeposeError as error:  # too large for its format, say; its key points are kept
                self.report.unreadable.append(str(error))
                return
            self.report.overlays.append(target)

    @property
    def _min_person_score(self) -> float:
        """Of a detected person."""
        return MIN_SCORE if self.min_box_score == -math.inf else self.min_box_score

    def video_with_detector(self, path: Path, target: Path | None, live: LiveOutput) -> None:
        """Find and follow the people of one video file."""
        try:
            source = FileSource(path)
        except InputError as error:
            self._unreadable(path, error)
            return
        self.followed([source], [target], live)

    def followed(self, sources: Sequence[Source], overlays: Sequence[Path | None], live: LiveOutput) -> None:
        """Find and follow the people of several sources at once."""
        if self.detector is None:
            raise ValueError("sources need a detector: nobody has told where their people are")
        if self.space is not None and len(sources) > 1:
            raise ValueError("a lifter takes one source at a time")
        report, write = self.report, self.write
        lifter = None if self.space is None else LiveLifter(self.space.lifter, self.backend.spec.skeleton)
        if self.space is not None and sources[0].live:  # whose records cannot wait for its end
            write = self.space.write
        followers = Followers(
            self.backend,
            self.detector,
            len(sources),
            self.following,
            min_score=self._min_person_score,
            flip_test=self.flip_test,
        )
        images, people = report.images, report.people

        def tell(reports: Sequence[SourceReport]) -> None:
            report.images = images + sum(one.frames for one in reports)
            report.people = people + sum(one.people for one in reports)
            live.tell(reports)

        skeleton, times = self.backend.spec.skeleton, self.times
        done = watch_sources(
            followers,
            sources,
            skeleton,
            write,
            times,
            overlays=overlays,
            live=replace(live, tell=tell),
            lifter=lifter,
        )
        report.sources += done
        drawn = [one.overlay for one in done if one.overlay is not None]
        report.overlays += drawn
        if self.space is not None and not sources[0].live:
            self.space.finish()
            for path in drawn:
                with times.stage("draw"):
                    add_positions(path, self.space.positions, self.space.lifter.skeleton)
        for one in done:
            if one.error is not None:
                self._unreadable(one.name, InputError(one.error))

    def video(self, path: Path, boxes_file: Path | None, target: Path | None, watch: Watch) -> None:
        """Read one video, find the people of each frame, write them and the overlay video."""
        times = self.times
        try:
            reader = VideoReader(path)
        except InputError as error:
            self._unreadable(path, error)
            return
        with closing(reader), ExitStack() as stack:
            entries = _boxes_of_frames(reader, boxes_file, self.min_box_score)
            others = _no_boxes(path, boxes_file)
            overlay: VideoWriter | None = None
            frames = enumerate(watch(path.name, self._frames(reader), reader.length))
            shown = ((frame, usable_people(frame, entries.get(index, others))) for index, frame in frames)
            for index, (frame, people, poses) in enumerate(self._with_poses(shown)):
                identity = {"image_id": f"{path.name}/{index}", "frame": index, "file_name": str(path)}
                self._keep(poses, frame, people, identity)
                if target is None:
                    continue
                with times.stage("draw"):
                    drawn = self._drawn(frame.to_rgb(), poses)
                try:
                    with times.stage("write"):
                        overlay = overlay or stack.enter_context(video_file(target, reader.fps))
                        overlay.write(drawn)
                except EdgeposeError as error:  # too large for the codec, say; its key points are kept
                    self.report.unreadable.append(f"{target}: {error}")
                    stack.close()
                    target.unlink(missing_ok=True)
                    target = None
        if self.space is not None:
            self.space.finish()
        if overlay is not None and target is not None:
            self.report.overlays.append(target)
            if self.space is not None:
                with times.stage("draw"):
                    add_positions(target, self.space.positions, self.space.lifter.skeleton)

    def _with_poses(self, shown: Iterable[tuple[Frame, PeopleBoxes]]) -> Iterator[tuple[Frame, PeopleBoxes, Poses]]:
        """Each frame and its people with their poses; a backend may work on some frames ahead."""
        kept, fed = tee(shown)
        poses = estimate_frames(
            self.backend, ((frame, people.boxes_xyxy) for frame, people in fed), flip_test=self.flip_test
        )
        for one in poses:
            yield (*next(kept), one)

    def _drawn(self, image: np.ndarray, poses: Poses) -> np.ndarray:
        """The poses over the image, and beside it their positions where the network finds them."""
        skeleton = self.backend.spec.skeleton
        overlay = draw_poses(image, poses, skeleton)
        return overlay if poses.xyz is None else with_positions(overlay, poses.xyz, skeleton)

    def _keep(self, poses: Poses, image: np.ndarray | Frame, boxes: PeopleBoxes, identity: dict[str, Any]) -> None:
        """Write and count an image's people."""
        height, width = hw_of(image)
        with self.times.stage("write"):
            self.write({**identity, "width": width, "height": height, "people": people_of(poses, boxes.scores)})
        self.report.images += 1
        self.report.people += len(poses)
        self.report.unusable_boxes += boxes.unusable

    def _frames(self, reader: VideoReader) -> Iterator[Frame]:
        """The frames, each timed; a video that ends early is reported."""
        frames = reader.frames()
        while True:
            try:
                with self.times.stage("read"):
                    frame = next(frames, None)
            except InputError as error:
                self._unreadable(reader.path, error)
                return
            if frame is None:
                return
            yield frame

    def _unreadable(self, name: Path | str, error: InputError) -> None:
        self.report.unreadable.append(str(error))
        self.write({"file_name": str(name), "error": str(error)})


def _boxes_of_frames(reader: VideoReader, boxes_file: Path | None, min_score: float) -> dict[int, ImageBoxes]:
    """The boxes of each frame that the file speaks of, by its number; empty without a boxes file."""
    frames = {} if boxes_file is None else boxes_of_frames(reader.path, boxes_file, min_score=min_score)
    if frames and reader.length and not any(0 <= frame < reader.length for frame in frames):
        raise InputError(
            f"{boxes_file} knows none of the {reader.length} frames of {reader.path}: its image_id must be their "
            f"number, from 0"
        )
    return frames


def _no_boxes(path: Path, boxes_file: Path | None) -> ImageBoxes:
    """A frame without boxes of its own: the whole of it is one person, or, with a boxes file, nobody is in it."""
    if boxes_file is None:
        return boxes_for_images([path], None)[0]
    return ImageBoxes(path, None, np.zeros((0, 4), np.float32), np.zeros(0, np.float32))

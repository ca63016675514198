"""From image and video files to key points in files: what `edgepose infer` does."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgepose.backends import Backend
from edgepose.errors import EdgeposeError, InputError
from edgepose.estimate.detect import Detector, find_people
from edgepose.estimate.follow import MIN_SCORE, Followers, Following
from edgepose.estimate.lift import Lifter
from edgepose.estimate.lift_records import RecordLifter, lifted
from edgepose.estimate.top_down import estimate_frames, estimate_poses
from edgepose.io.boxes import ImageBoxes, boxes_for_images, boxes_of_frames
from edgepose.io.images import turned_warning, write_image
from edgepose.io.keypoints import PARTIAL, WriteRecord, people_of, to_file, to_stream
from edgepose.io.overlay import draw_poses
from edgepose.io.people import PeopleBoxes, left_out, read_picture, usable_people
from edgepose.io.sources import FileSource, Source
from edgepose.io.space import add_positions, find_matplotlib, with_positions
from edgepose.io.table import to_table
from edgepose.io.video import VIDEO_SUFFIXES, VideoReader, VideoWriter, video_file
from edgepose.stages.poses import Poses
from edgepose.stream import LiveOutput, SourceReport, watch_sources
from edgepose.timing import StageTimes, measured
from edgepose.watching import Watch, unwatched

# on a GPU crop to download are its own times, while the CPU reads and draws other frames
STAGES = (
    "read", "letterbox", "detect", "boxes", "upload", "crop", "network", "decode", "network+decode", "download",
    "draw", "write",
)  # fmt: skip
SHOWN = 10  # unreadable files that are named one by one


@dataclass
class InferReport:
    """What `infer` did.

    Attributes:
        images: images and video frames that were read.
        people: boxes in them that key points were found for.
        unreadable: a line for each file that could not be read to its end, or whose overlay could not be written.
        unusable_boxes: boxes left out: not finite, without area, or wholly outside their image.
        turned: images whose EXIF notes a rotation, which was ignored.
        seconds: time of each of STAGES that was measured.
        results: the JSON file written, if any.
        overlays: pictures and videos written.
        network: what the network was run by and computed in.
        sources: what came of each video, camera or stream whose people were found and followed.
    """

    images: int = 0
    people: int = 0
    unreadable: list[str] = field(default_factory=list)
    unusable_boxes: int = 0
    turned: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    results: Path | None = None
    overlays: list[Path] = field(default_factory=list)
    network: str = ""
    sources: list[SourceReport] = field(default_factory=list)

    def summary(self) -> str:
        """Counts, what was written, and a table of the stages' times."""
        written = [str(self.results)] if self.results else []
        if self.overlays:
            written.append(f"overlays in {self.overlays[0].parent}")
        counts = f"images: {self.images}, people: {self.people}, network: {self.network}"
        lines = [counts + (f"; wrote {' and '.join(written)}" if written else "")]
        lines += [source.summary() for source in self.sources]
        width = max(map(len, ("stage", *self.seconds)))
        lines.append(f"{'stage':<{width}} {'ms/image':>9} {'ms/person':>10}")
        for name, seconds in (*self.seconds.items(), ("sum", sum(self.seconds.values()))):
            per_person = f"{1e3 * seconds / self.people:10.2f}" if self.people else f"{'-':>10}"
            lines.append(f"{name:<{width}} {1e3 * seconds / max(1, self.images):9.2f} {per_person}")
        return "\n".join(lines)

    def reached(self) -> str:
        """How far a run came that did not end, and where its key points are."""
        kept = f" (their key points: {self.results.with_name(PARTIAL)})" if self.results and self.people else ""
        return f"after {self.images} images or frames{kept}"

    def warnings(self) -> list[str]:
        """What the user should know besides the results."""
        lines = self.unreadable[:SHOWN]
        if len(self.unreadable) > SHOWN:
            lines.append(f"… and {len(self.unreadable) - SHOWN} more files that could not be read")
        lines += [note for source in self.sources for note in source.notes]
        lines += left_out(self.unusable_boxes)
        if self.turned:
            lines.append(turned_warning(self.turned))
        return lines


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
    backend.warm_up()
    report = InferReport(network=f"{backend.arithmetic} ({backend.name})")
    with ExitStack() as stack:
        times = stack.enter_context(measured())
        if stream is not None:
            write = to_table(stream, backend.spec.skeleton.keypoints) if table else to_stream(stream)
        elif folder is not None:
            report.results = folder / "keypoints.json"
            write = stack.enter_context(to_file(report.results))
        else:
            raise ValueError("infer needs a folder or a stream to write to")
        space = None
        if lifter is not None:
            if targets:
                find_matplotlib()  # missed now, not after the work
            skeleton = backend.spec.skeleton
            space = write = stack.enter_context(lifted(write, lifter, skeleton, flip_test=flip_test))
        run = _Run(backend, times, write, flip_test, min_box_score, report, space, detector, following)
        try:
            for entry in watch("images", entries, len(entries)):
                run.image(entry, ids[entry.path], targets.get(entry.path))
            for path in videos:
                if detector is not None and boxes_file is None:
                    run.video_with_detector(path, targets.get(path), live or LiveOutput())
                else:
                    run.video(path, boxes_file, targets.get(path), watch)
            if sources:
                overlays = _source_overlays(sources, folder) if folder and save_overlays else [None] * len(sources)
                run.followed(sources, overlays, live or LiveOutput())
        except KeyboardInterrupt:
            raise KeyboardInterrupt(report.reached()) from None
        except OSError as error:
            if report.images and error.strerror:
                error.strerror += f" {report.reached()}"
            raise
        except EdgeposeError as error:
            if report.images:
                error.args = (f"{error}; stopped {report.reached()}",)
            raise
        if (inputs or sources) and not report.images:
            more = f", nor {len(inputs) - 1} others" if len(inputs) > 1 else ""
            raise InputError(f"nothing could be read: {report.unreadable[0]}{more}")
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
                overlay = draw_poses(image, poses, self.backend.spec.skeleton)
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
        if self.space is not None and (len(sources) > 1 or sources[0].live):
            raise ValueError("a lifter waits for a video's end: give it one source, and a file")
        report = self.report
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
            followers, sources, skeleton, self.write, times, overlays=overlays, live=replace(live, tell=tell)
        )
        report.sources += done
        drawn = [one.overlay for one in done if one.overlay is not None]
        report.overlays += drawn
        if self.space is not None:
            self.space.finish()
            for path in drawn:
                with times.stage("draw"):
                    add_positions(path, self.space.positions, self.space.lifter.skeleton)
        for one in done:
            if one.error is not None:
                self._unreadable(Path(one.name), InputError(one.error))

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
                    drawn = draw_poses(frame, poses, self.backend.spec.skeleton)
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

    def _with_poses(
        self, shown: Iterable[tuple[np.ndarray, PeopleBoxes]]
    ) -> Iterator[tuple[np.ndarray, PeopleBoxes, Poses]]:
        """Each frame and its people with their poses; a backend may work on some frames ahead."""
        kept, fed = tee(shown)
        poses = estimate_frames(
            self.backend, ((frame, people.boxes_xyxy) for frame, people in fed), flip_test=self.flip_test
        )
        for one in poses:
            yield (*next(kept), one)

    def _keep(self, poses: Poses, image: np.ndarray, boxes: PeopleBoxes, identity: dict[str, Any]) -> None:
        """Write and count an image's people."""
        height, width = image.shape[:2]
        with self.times.stage("write"):
            self.write({**identity, "width": width, "height": height, "people": people_of(poses, boxes.scores)})
        self.report.images += 1
        self.report.people += len(poses)
        self.report.unusable_boxes += boxes.unusable

    def _frames(self, reader: VideoReader) -> Iterator[np.ndarray]:
        """The frames, each timed; a video that ends early is reported."""
        frames = iter(reader)
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

    def _unreadable(self, path: Path, error: InputError) -> None:
        self.report.unreadable.append(str(error))
        self.write({"file_name": str(path), "error": str(error)})


def image_ids(entries: Sequence[ImageBoxes], boxes_file: Path | None) -> dict[Path, int | str]:
    """Each image's image_id: the boxes file's or the number that its name is, else its name; its path if shared."""
    ids = {entry.path: entry.path.name if entry.image_id is None else entry.image_id for entry in entries}
    shared = {one for one, count in Counter(ids.values()).items() if count > 1}
    return {path: str(path) if one in shared and boxes_file is None else one for path, one in ids.items()}


def overlay_targets(inputs: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each input's overlay goes: under its own name, numbered where two inputs share it."""
    originals = {os.path.realpath(path) for path in inputs}  # Path.resolve would end at a circle of links
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    for path in inputs:
        suffix = ".png" if path.suffix.lower() == ".png" else ".jpg"
        suffix = ".mp4" if path.suffix.lower() in VIDEO_SUFFIXES else suffix
        name, number = _short(path.stem, suffix), 1
        while name in taken:
            number += 1
            name = _short(path.stem, f"-{number}{suffix}")
        taken.add(name)
        targets[path] = folder / name
        if os.path.realpath(targets[path]) in originals:
            raise InputError(f"{targets[path]} is an input, and the overlay would replace it: choose another --out")
    return targets


def _short(stem: str, end: str) -> str:
    """A file's name of at most 255 bytes, which is what file systems take."""
    name, room = os.fsencode(stem), 255 - len(end)
    return (stem if len(name) <= room else name[:room].decode(errors="ignore")) + end


def _source_overlays(sources: Sequence[Source], folder: Path) -> list[Path | None]:
    """Where each source's overlay video goes: under what its name has of letters and digits."""
    names = [re.sub(r"[^A-Za-z0-9]+", "-", Path(source.name).stem).strip("-") or "source" for source in sources]
    numbered = [f"{name}-{names[:i].count(name) + 1}" if name in names[:i] else name for i, name in enumerate(names)]
    return [folder / "overlays" / f"{name}.mp4" for name in numbered]


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

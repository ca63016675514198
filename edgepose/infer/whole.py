"""From image files, videos and sources to the key points of all people in them, by a network that needs no boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np

from edgepose.backends.runtime import Runtime
from edgepose.errors import EdgeposeError, InputError
from edgepose.estimate.follow import Following
from edgepose.estimate.lift import Lifter
from edgepose.estimate.lift_live import LiveLifter
from edgepose.estimate.lift_records import RecordLifter, lifted
from edgepose.estimate.whole import WholeFollowers, estimate_people, head_of
from edgepose.infer.report import STAGES, InferReport, check_something_read, open_results, saying_how_far
from edgepose.infer.stream import DRAWN, LiveOutput, SourceReport, watch_sources
from edgepose.infer.targets import image_ids, overlay_targets, source_overlays
from edgepose.io.boxes import ImageBoxes, boxes_for_images
from edgepose.io.images import write_image
from edgepose.io.keypoints import WriteRecord, scored_people
from edgepose.io.overlay import draw_poses
from edgepose.io.people import read_picture
from edgepose.io.sources import FileSource, Source
from edgepose.io.space import add_positions, find_matplotlib, with_positions
from edgepose.io.video import VIDEO_SUFFIXES
from edgepose.io.watching import Watch, unwatched
from edgepose.model.heads.people import People
from edgepose.stages.poses import Poses
from edgepose.timing import StageTimes, measured

LIKELY = 0.3  # a person's score, of networks that give people; those that group key points judge by their own rules


def infer_whole(
    runtime: Runtime,
    inputs: Sequence[Path],
    *,
    following: Following | None = None,
    sources: Sequence[Source] = (),
    live: LiveOutput | None = None,
    folder: Path | None = None,
    stream: TextIO | None = None,
    table: bool = False,
    flip_test: bool = False,
    min_score: float | None = None,
    scales: Sequence[Runtime] = (),
    lifter: Lifter | None = None,
    save_overlays: bool = True,
    watch: Watch = unwatched,
) -> InferReport:
    """Find the key points of every person in images and videos; images first, then videos.

    Args:
        runtime: from `load_runtime`, of a network that finds everybody in a whole image.
        inputs: image files, and videos (by their suffix), whose people are followed.
        following: how people are followed; every frame is looked at.
        sources, live, folder, stream, table, save_overlays: as `infer` takes them.
        flip_test, scales: see `estimate_people`.
        lifter: adds positions in space to every person, as `infer` does.
        min_score: people of a lower score are left out; None: 0.3 for a head of people, none else.
        watch: sees each step's items pass, with their name and count, for a progress bar.

    Raises:
        InputError: an overlay would replace an input; or none of the inputs can be read. Single unreadable files are
            reported instead.
        ModelFileError: the network finds something else, or there is no flip test of its head.
        OSError: the folder or stream cannot be written. No half-written file is left.
        KeyboardInterrupt: interrupted.
    """
    videos = [path for path in inputs if path.suffix.lower() in VIDEO_SUFFIXES]
    entries = boxes_for_images([path for path in inputs if path.suffix.lower() not in VIDEO_SUFFIXES], None)
    ids = image_ids(entries, None)
    targets = overlay_targets(inputs, folder / "overlays") if folder and save_overlays else {}
    spec = runtime.passport.spec
    if min_score is None:
        min_score = LIKELY if isinstance(head_of(spec), People) else 0.0
    find = partial(estimate_people, runtime, flip_test=flip_test, min_score=min_score, scales=scales)
    find(np.zeros((*spec.image.size_hw, 3), np.uint8))  # the first run is slow
    report = InferReport(network=f"{runtime.arithmetic} ({runtime.name})")
    with ExitStack() as stack:
        times = stack.enter_context(measured())
        write = open_results(stack, report, spec, lifter, folder=folder, stream=stream, table=table)
        space = None
        if lifter is not None:
            if folder and save_overlays:
                find_matplotlib()  # missed now, not after the work
            space = write = stack.enter_context(lifted(write, lifter, spec.skeleton, flip_test=flip_test))
        followers = partial(
            WholeFollowers, following=following, flip_test=flip_test, min_score=min_score, scales=scales
        )
        run = _Run(runtime, find, followers, write, report, times, live or LiveOutput(), space)
        with saying_how_far(report):
            for entry in watch("images", entries, len(entries)):
                run.image(entry, ids[entry.path], targets.get(entry.path))
            for path in videos:
                run.video(path, targets.get(path))
            if sources:
                overlays = source_overlays(sources, folder) if folder and save_overlays else [None] * len(sources)
                run.followed(sources, overlays)
        check_something_read(report, len(inputs) + len(sources))
    report.seconds = {name: times.seconds[name] for name in STAGES if name in times.seconds}
    return report


@dataclass
class _Run:
    """One run over all inputs: the loop's body, with what it counts."""

    runtime: Runtime
    find: Callable[[np.ndarray], tuple[Poses, np.ndarray]]
    followers: Callable[[Runtime, int], WholeFollowers]
    write: WriteRecord
    report: InferReport
    times: StageTimes
    live: LiveOutput
    space: RecordLifter | None = None

    def image(self, entry: ImageBoxes, image_id: int | str, target: Path | None) -> None:
        """Read one image, find its people, write them and their overlay."""
        times, report = self.times, self.report
        try:
            with times.stage("read"):
                image, turned = read_picture(entry)
        except InputError as error:
            self._unreadable(str(entry.path), str(error))
            return
        poses, scores = self.find(image)
        about = {"image_id": image_id, "file_name": str(entry.path), "width": image.shape[1], "height": image.shape[0]}
        with times.stage("write"):
            self.write({**about, "people": scored_people(poses, scores)})
        report.images += 1
        report.people += len(poses)
        report.turned += turned
        if target is None:
            return
        try:
            with times.stage("draw"):
                drawn = draw_poses(image, poses, self.runtime.passport.spec.skeleton, self._drawn_above)
                if self.space is not None:
                    drawn = with_positions(drawn, self.space.positions[0], self.space.lifter.skeleton)
            with times.stage("write"):
                write_image(target, drawn)
        except EdgeposeError as error:  # too large for its format, say; its key points are kept
            report.unreadable.append(str(error))
            return
        report.overlays.append(target)

    def video(self, path: Path, target: Path | None) -> None:
        """Find and follow the people of one video file."""
        try:
            source = FileSource(path)
        except InputError as error:
            self._unreadable(str(path), str(error))
            return
        self.followed([source], [target])

    def followed(self, sources: Sequence[Source], overlays: Sequence[Path | None]) -> None:
        """Find and follow the people of several sources at once."""
        if self.space is not None and len(sources) > 1:
            raise ValueError("a lifter takes one source at a time")
        report, write, skeleton = self.report, self.write, self.runtime.passport.spec.skeleton
        lifter = None if self.space is None else LiveLifter(self.space.lifter, skeleton)
        if self.space is not None and sources[0].live:  # whose records cannot wait for its end
            write = self.space.write
        images, people = report.images, report.people

        def tell(reports: Sequence[SourceReport]) -> None:
            report.images = images + sum(one.frames for one in reports)
            report.people = people + sum(one.people for one in reports)
            self.live.tell(reports)

        done = watch_sources(
            self.followers(self.runtime, len(sources)),
            sources,
            skeleton,
            write,
            self.times,
            overlays=overlays,
            live=replace(self.live, tell=tell),
            own_scores=True,
            drawn_above=self._drawn_above,
            lifter=lifter,
        )
        report.sources += done
        drawn = [one.overlay for one in done if one.overlay is not None]
        report.overlays += drawn
        if self.space is not None and not sources[0].live:
            self.space.finish()
            for path in drawn:
                with self.times.stage("draw"):
                    add_positions(path, self.space.positions, self.space.lifter.skeleton)
        for one in done:
            if one.error is not None:
                self._unreadable(one.name, one.error)

    @property
    def _drawn_above(self) -> float:
        """A grouped key point has been over the network's own threshold; of people's all are given, sure or not."""
        return DRAWN if isinstance(self.runtime.passport.spec.head, People) else 1e-6

    def _unreadable(self, name: str, error: str) -> None:
        self.report.unreadable.append(error)
        self.write({"file_name": name, "error": error})

"""From videos, cameras and streams to key points, several at once: what `edgepose infer --source` does."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgepose.errors import EdgeposeError, InputError
from edgepose.estimate.lift_live import LiveLifter
from edgepose.estimate.lift_records import with_xyz
from edgepose.io.keypoints import WriteRecord, people_of, scored_people
from edgepose.io.overlay import draw_poses
from edgepose.io.prefetch import Prefetch
from edgepose.io.sources import Shot, Source
from edgepose.io.space import for_page, with_positions
from edgepose.io.video import video_file
from edgepose.model.skeletons import Skeleton
from edgepose.stages.frames import Frame, hw_of
from edgepose.stages.poses import Poses
from edgepose.timing import StageTimes

AHEAD, AHEAD_LIVE = 4, 2  # frames that wait for the network: of files, of live sources
POLL_S = 0.001  # between looks whether a frame has come
RATE_FRAMES = 30  # that the shown frame rate is the mean of


DRAWN = 0.3  # a key point's score


class Follows(Protocol):
    """Finds and follows the people of several videos: `Followers`, `WholeFollowers`."""

    def take(self, frames: Sequence[tuple[int, np.ndarray | Frame, float]]) -> list[Poses]:
        """The poses of one frame of each of some videos: (number of the video, image, seconds)."""
        ...


class Picture(Protocol):
    """Shows drawn frames: a browser, a window."""

    def show(self, source: int, image: np.ndarray, status: dict[str, Any]) -> None:
        """Show (H, W, 3) uint8 RGB as the newest frame of a source; `status`: people, fps, frame, perhaps space."""
        ...


@dataclass
class SourceReport:
    """What came of one source.

    Attributes:
        name: the source's.
        frames: frames whose people were sought.
        people: of all frames together.
        ids: how many were given.
        dropped: frames of a live source that nobody had time for.
        fps: frames a second, of the last ones.
        length: frames that the source announced; 0 where nobody knew.
        notes: what went wrong and was survived.
        error: why it ended, if it should not have.
        overlay: the video that was written.
    """

    name: str
    length: int = 0
    frames: int = 0
    people: int = 0
    ids: int = 0
    dropped: int = 0
    fps: float = 0.0
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    overlay: Path | None = None

    def summary(self) -> str:
        """One line."""
        parts = [f"{self.name}: {self.frames} frames, {self.people} people, {self.ids} ids"]
        parts += [f"{self.dropped} frames dropped"] * (self.dropped > 0) + [f"overlay in {self.overlay}"] * (
            self.overlay is not None
        )
        return ", ".join(parts)


Tell = Callable[[Sequence[SourceReport]], None]


def _tell_nobody(reports: Sequence[SourceReport]) -> None:
    pass


@dataclass(frozen=True)
class LiveOutput:
    """What happens besides the files while sources are watched.

    Attributes:
        picture: shows each drawn frame.
        most_frames: of each source; the rest is left. None: all.
        tell: is told after each round how far each source is.
    """

    picture: Picture | None = None
    most_frames: int | None = None
    tell: Tell = _tell_nobody


@dataclass
class _Lane:
    """One source on its way: its frames, what is known of it, and where its pictures go."""

    number: int
    source: Source
    frames: Prefetch[Shot]
    shots: Iterator[Shot]
    report: SourceReport
    overlay: Path | None
    writer: Any = None
    moments: deque[float] = field(default_factory=lambda: deque(maxlen=RATE_FRAMES))


def watch_sources(
    followers: Follows,
    sources: Sequence[Source],
    skeleton: Skeleton,
    write: WriteRecord,
    times: StageTimes,
    *,
    overlays: Sequence[Path | None] = (),
    live: LiveOutput | None = None,
    own_scores: bool = False,
    drawn_above: float = DRAWN,
    lifter: LiveLifter | None = None,
) -> list[SourceReport]:
    """Find and follow the people of several sources at once, until all have ended.

    Of each source that has a frame ready, one is taken; these frames share each run of the networks. Live sources do
    not wait for each other; files do not wait for live ones.

    Args:
        followers: as many as sources; see `Followers`.
        sources: closed in the end.
        write: gets a record for each frame: file_name, frame, seconds, width, height, people.
        times: gets the stages read (which is waiting, too), draw and write.
        overlays: of each source where its overlay video goes, or None.
        live: what else is done with the frames.
        own_scores: people's scores are written as they are; else times those of their key points, as for boxes.
        drawn_above: key points of a lower score are not drawn.
        lifter: of one source: its people's positions are shown, and of a live source written too.

    Raises:
        KeyboardInterrupt: interrupted, where all sources are files; with a live source an interrupt is how it ends.

    A source that breaks off, or gives no frame, ends alone; its report says why.
    """
    reports = [SourceReport(source.name, source.length) for source in sources]
    targets = list(overlays) or [None] * len(sources)
    output = _Output(skeleton, write, times, live or LiveOutput(), own_scores, drawn_above, lifter)
    with ExitStack() as stack:
        lanes = []
        for number, (source, report, target) in enumerate(zip(sources, reports, targets, strict=True)):
            stack.enter_context(closing(source))
            ahead = AHEAD_LIVE if source.live else AHEAD
            frames = stack.enter_context(closing(Prefetch(iter(source), ahead=ahead, drop=source.live)))
            lanes.append(_Lane(number, source, frames, iter(frames), report, target))
        stack.enter_context(output.videos)
        try:
            while lanes:
                lanes = _round(lanes, followers, output)
                output.live.tell(reports)
        except KeyboardInterrupt:
            if not any(source.live for source in sources):
                raise
    for source, report in zip(sources, reports, strict=True):
        report.notes += source.notes
        if not report.frames and report.error is None:
            report.error = f"{report.name}: no frame came"
    return reports


@dataclass(frozen=True)
class _Output:
    """Where all sources' frames go."""

    skeleton: Skeleton
    write: WriteRecord
    times: StageTimes
    live: LiveOutput
    own_scores: bool
    drawn_above: float
    lifter: LiveLifter | None = None
    videos: ExitStack = field(default_factory=ExitStack)


def _round(lanes: list[_Lane], followers: Follows, output: _Output) -> list[_Lane]:
    """Take a frame of each source that has one; the sources that go on."""
    taken: list[tuple[_Lane, Shot]] = []
    ended = []
    with output.times.stage("read"):
        while not (ready := [lane for lane in lanes if lane.frames.ready()]):
            time.sleep(POLL_S)
        for lane in ready:
            shot = _next(lane)
            if shot is None:
                ended.append(lane)
            else:
                taken.append((lane, shot))
    poses = followers.take([(lane.number, shot.image, shot.seconds) for lane, shot in taken])
    for (lane, shot), found in zip(taken, poses, strict=True):
        _keep(lane, shot, found, output)
        most = output.live.most_frames
        if most is not None and lane.report.frames >= most:
            ended.append(lane)
    return [lane for lane in lanes if lane not in ended]


def _next(lane: _Lane) -> Shot | None:
    """The next frame of a source; None at its end, whose reason is noted."""
    try:
        shot = next(lane.shots, None)
    except InputError as error:
        lane.report.error = str(error)
        shot = None
    lane.report.dropped = lane.frames.dropped
    return shot


def _keep(lane: _Lane, shot: Shot, poses: Poses, output: _Output) -> None:
    """Write, count, draw and show one frame's people."""
    report = lane.report
    report.frames += 1
    report.people += len(poses)
    if poses.track_ids is not None:
        report.ids = max(report.ids, int(poses.track_ids.max(initial=0)))  # they are given one after the other
    lane.moments.append(time.monotonic())
    if len(lane.moments) > 1:
        report.fps = (len(lane.moments) - 1) / max(lane.moments[-1] - lane.moments[0], 1e-6)
    height, width = hw_of(shot.image)
    scores = np.ones(len(poses)) if poses.box_scores is None else poses.box_scores
    record: dict[str, Any] = {
        "image_id": f"{report.name}/{shot.index}",
        "file_name": report.name,
        "frame": shot.index,
        "seconds": round(shot.seconds, 3),
        "width": width,
        "height": height,
        "people": scored_people(poses, scores) if output.own_scores else people_of(poses, scores),
    }
    space, lifter = poses.xyz, output.lifter
    picture = output.live.picture
    if lifter is not None and (lane.source.live or picture is not None):
        with output.times.stage("lift"):
            space = lifter.take(shot.index, poses, (width, height))
        if lane.source.live:
            record["people"] = with_xyz(record["people"], space, lifter.lifter.skeleton)
    with output.times.stage("write"):
        output.write(record)
    if lane.overlay is None and picture is None:
        return
    with output.times.stage("draw"):
        image = shot.image.to_rgb() if isinstance(shot.image, Frame) else shot.image
        drawn = draw_poses(image, poses, output.skeleton, output.drawn_above)
    if picture is not None:
        status: dict[str, Any] = {"people": len(poses), "fps": round(report.fps, 2), "frame": shot.index}
        if space is not None:
            skeleton = output.skeleton if lifter is None else lifter.lifter.skeleton
            status["space"] = for_page(space, skeleton, poses.track_ids)
        picture.show(lane.number, drawn, status)
    if lane.overlay is None:
        return
    if space is not None and (lifter is None or lane.source.live):  # a file's are drawn at its end, from all frames
        with output.times.stage("draw"):
            drawn = with_positions(drawn, space, output.skeleton if lifter is None else lifter.lifter.skeleton)
    try:
        with output.times.stage("write"):
            if lane.writer is None:
                lane.writer = output.videos.enter_context(video_file(lane.overlay, lane.source.fps))
                report.overlay = lane.overlay
            lane.writer.write(drawn)
    except EdgeposeError as error:  # too large for the codec, say; its key points are kept
        report.notes.append(f"{lane.overlay}: {error}")
        lane.overlay = report.overlay = None

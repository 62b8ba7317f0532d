"""Generated videos: the same for the same seed, told apart by motion, readable by anyone."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.spec import preset
from fgmclip.spec.presets import DEMO_ACTIONS
from fgmclip.video.decode import decode
from fgmclip.video.drawing import Canvas, draw_capsule
from fgmclip.video.motions import MOTIONS
from fgmclip.video.samples import (
    ACTIONS,
    SampleClip,
    SampleError,
    generate_samples,
    paint_in_order,
    render,
)
from fgmclip.video.scenes import SIZES, Scene
from fgmclip.video.windows import read_windows

PAIRS = tuple(zip(ACTIONS[0:8:2], ACTIONS[1:8:2], strict=True))
OTHERS = ACTIONS[8:]
SEEDS = st.integers(0, 2**31)


def scene_of(action: str, seed: int) -> Scene:
    return Scene.draw(MOTIONS[action].program, np.random.default_rng(seed))


def alone(scene: Scene, index: int, ground: float = 255) -> Canvas:
    """Paint the figure of a scene on an even grey, white by default, as the camera sees it."""
    canvas = np.full((3, *scene.size), ground, np.float32)
    scene.figure.paint(canvas, index, -scene.camera[index])
    return canvas


def covered(scene: Scene, index: int) -> NDArray[np.bool_]:
    """Return where the figure hides white and black alike [H,W]; its soft shadow does not."""
    return np.asarray(alone(scene, index)[0] - alone(scene, index, 0)[0] < 0.6 * 255)


def picture_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_actions_are_those_of_the_demo_preset() -> None:
    assert tuple(DEMO_ACTIONS) == ACTIONS == tuple(MOTIONS)
    assert preset("demo").labels == ACTIONS


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_renders_the_same_twice_and_differs_between_seeds(action: str) -> None:
    frames, rate = render(action, 3)
    again, _ = render(action, 3)
    other, _ = render(action, 4)
    assert frames.dtype == np.uint8
    assert frames.shape[1:3] in SIZES
    np.testing.assert_array_equal(frames, again)
    assert 1.2 <= len(frames) / rate <= 1.6
    assert other.shape != frames.shape or np.abs(other.astype(int) - frames).mean() > 10


@pytest.mark.parametrize("action", ACTIONS)
def test_the_action_moves_in_every_second_of_the_video(action: str) -> None:
    for seed in range(2):
        scene = scene_of(action, seed)
        pictures = [alone(scene, index) for index in range(len(scene))]
        # Shares of the figure's own area that change within an eighth of a second.
        area = np.mean([(picture < 250).any(0).sum() for picture in pictures])
        step = scene.rate // 8
        moved = [
            (np.abs(a - b).max(0) > 30).sum() / area
            for a, b in zip(pictures, pictures[step:], strict=False)
        ]
        half_second = scene.rate // 2
        windows = [moved[at : at + half_second] for at in range(len(moved) - half_second)]
        assert min(np.max(window) for window in windows) > 0.04


@pytest.mark.parametrize(("forward", "backward"), PAIRS)
@given(seed=SEEDS)
@settings(max_examples=2, deadline=None)
def test_a_direction_pair_shows_the_same_pictures_in_reverse_order(
    forward: str, backward: str, seed: int
) -> None:
    first = list(paint_in_order(scene_of(forward, seed), MOTIONS[forward]))
    second = list(paint_in_order(scene_of(backward, seed), MOTIONS[backward]))
    np.testing.assert_array_equal(np.stack(first), np.stack(second[::-1]))
    assert np.abs(first[0] - second[0]).max() > 30


@pytest.mark.parametrize(("forward", "backward"), PAIRS)
def test_a_direction_pair_shares_no_appearance(forward: str, backward: str) -> None:
    first, second = render(forward, 5)[0], render(backward, 5)[0]
    assert first.shape != second.shape or np.abs(first.astype(int) - second[::-1]).mean() > 10


def test_directions_are_what_their_names_say() -> None:
    """Screen positions: x to the right, y down."""
    for seed in range(5):
        assert np.all(np.diff(scene_of("walk_left", seed).figure.column) < 0)
        assert _reach(scene_of("sit_down", seed)) > 0.1
        assert _reach(scene_of("raise_arms", seed)) < -0.1
        assert _turn(scene_of("circle_clockwise", seed)) > 0


def _reach(scene: Scene) -> float:
    """How far down the highest painted row moves from first to last picture, in heights."""
    tops = [int(np.argmax(covered(scene, index).any(1))) for index in (0, len(scene) - 1)]
    return (tops[1] - tops[0]) / scene.figure.scale


def _turn(scene: Scene) -> float:
    """Signed angle that the fastest hand runs through on the screen; clockwise is positive."""
    discs = [p.ends[:, 0] for p in scene.figure.parts if np.array_equal(p.ends[:, 0], p.ends[:, 1])]
    hand = max(discs, key=lambda path: float(np.abs(np.diff(path, axis=0)).sum()))
    steps = np.diff(hand, axis=0)
    cross = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
    return float(cross.sum())


@pytest.mark.parametrize("action", ACTIONS)
@given(seed=SEEDS)
@settings(max_examples=4, deadline=None)
def test_the_whole_action_stays_within_the_central_square(action: str, seed: int) -> None:
    scene = scene_of(action, seed)
    height, width = scene.size
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    seen = np.zeros((height, width), bool)
    for index in range(0, len(scene), 5):
        seen |= covered(scene, index)
    inside = np.zeros_like(seen)
    inside[top : top + side, left : left + side] = True
    assert seen.any()
    assert not (seen & ~inside).any()


@pytest.mark.parametrize("action", ACTIONS)
def test_the_figure_stands_out_from_its_background(action: str) -> None:
    luma = np.array([0.299, 0.587, 0.114], np.float32)[:, None, None]
    for seed in range(3):
        scene = scene_of(action, seed)
        mask = covered(scene, 0)
        picture = (scene.paint(0) * luma).sum(0)
        assert 0.01 < mask.mean() < 0.4
        assert np.abs(picture[mask] - np.median(picture[~mask])).mean() > 30


def test_lengths_say_nothing_about_the_class() -> None:
    lengths = {
        action: {len(scene) / scene.rate for scene in (scene_of(action, s) for s in range(12))}
        for action in ("walk_left", "sit_down", "jump")
    }
    assert set().union(*lengths.values()) == {34 / 24, 35 / 25, 42 / 30}
    assert lengths["walk_left"] == lengths["sit_down"] == lengths["jump"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SampleClip]]:
    folder = tmp_path_factory.mktemp("samples")
    return folder, generate_samples(folder, per_class=2, seed=7, actions=("sit_down", "wave"))


def test_files_are_listed_and_hold_the_rendered_pictures(
    generated: tuple[Path, list[SampleClip]],
) -> None:
    folder, clips = generated
    assert [(clip.label, clip.seed) for clip in clips] == [
        (action, seed) for action in ("sit_down", "wave") for seed in (7, 8)
    ]
    with (folder / "index.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(folder / row["path"], row["label"], int(row["seed"])) for row in rows] == [
        (clip.path, clip.label, clip.seed) for clip in clips
    ]
    for clip in clips:
        assert clip.path == folder / clip.label / f"{clip.label}_{clip.seed}.mp4"
        frames, rate = render(clip.label, clip.seed)
        decoded = list(decode(clip.path))
        assert len(decoded) == len(frames) == picture_count(clip.path)
        times = np.array([frame.time for frame in decoded])
        np.testing.assert_allclose(times, np.arange(len(frames)) / rate, atol=1e-6)
        error = np.stack([frame.pixels for frame in decoded]).astype(int) - frames
        # Chroma is halved and the quantiser coarse: near, not equal.
        assert np.abs(error).mean() < 8
        assert abs(error.mean()) < 1.5


def test_every_picture_is_coded_alike(generated: tuple[Path, list[SampleClip]]) -> None:
    """No first picture that looks better than the rest, which would tell sitting from standing."""
    for clip in generated[1]:
        with av.open(str(clip.path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert all(packet.is_keyframe for packet in packets)


def test_a_video_fills_two_windows_that_mirror_each_other_in_time(
    generated: tuple[Path, list[SampleClip]],
) -> None:
    clip_spec = preset("demo").clip
    for clip in generated[1]:
        windows = list(read_windows(clip.path, clip_spec))
        assert [window.samples for window in windows] == [clip_spec.frames] * 2
        last = windows[1].start + (clip_spec.frames - 1) * clip_spec.dt
        pictures = picture_count(clip.path)
        rate = render(clip.label, clip.seed)[1]
        assert last == pytest.approx((pictures - 1) / rate, abs=0.03)


def test_the_same_arguments_write_the_same_pictures(
    generated: tuple[Path, list[SampleClip]], tmp_path: Path
) -> None:
    again = generate_samples(tmp_path, per_class=1, seed=8, actions=("wave",))
    (twin,) = (clip for clip in generated[1] if (clip.label, clip.seed) == ("wave", 8))

    def pixels(path: Path) -> NDArray[np.uint8]:
        return np.stack([frame.pixels for frame in decode(path)])

    np.testing.assert_array_equal(pixels(again[0].path), pixels(twin.path))


def test_progress_counts_every_video(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    generate_samples(
        tmp_path,
        per_class=2,
        seed=0,
        actions=("kick",),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(0, 2), (1, 2), (2, 2)]


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"'dance'.*walk_left"):
        render("dance", 0)
    with pytest.raises(SampleError, match="'dance'"):
        generate_samples(tmp_path, per_class=1, seed=0, actions=("clap", "dance"))
    with pytest.raises(SampleError, match=r"at least 1 .* got 0"):
        generate_samples(tmp_path, per_class=0, seed=0)
    with pytest.raises(SampleError, match="0 or more, got -1"):
        generate_samples(tmp_path, per_class=1, seed=-1)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(SampleError, match="cannot be written"):
        generate_samples(tmp_path / "file", per_class=1, seed=0, actions=("clap",))


@given(
    ends=st.tuples(*[st.floats(-20, 60, width=32)] * 4),
    radii=st.tuples(*[st.floats(0.5, 12, width=32)] * 2),
)
@settings(max_examples=60, deadline=None)
def test_a_capsule_covers_what_lies_within_its_radius(
    ends: tuple[float, float, float, float], radii: tuple[float, float]
) -> None:
    """Against the definition, pixel by pixel; most capsules are partly outside the canvas."""
    canvas = np.zeros((3, 32, 40), np.float32)
    points = np.array(ends, np.float32).reshape(2, 2)
    draw_capsule(canvas, points, radii, np.array([200, 100, 50], np.float32))
    y, x = np.mgrid[:32, :40]
    way = points[1].astype(float) - points[0]
    along = (x - points[0, 0]) * way[0] + (y - points[0, 1]) * way[1]
    along = np.clip(along / max(way @ way, 1e-6), 0, 1)
    distance = np.hypot(x - points[0, 0] - along * way[0], y - points[0, 1] - along * way[1])
    expected = np.clip(radii[0] + along * (radii[1] - radii[0]) - distance + 0.5, 0, 1)
    # A tenth of a pixel: where the way is short, single precision is unsure of `along`.
    np.testing.assert_allclose(canvas[0] / 200, expected, atol=0.1)
    np.testing.assert_allclose(canvas[1], canvas[0] / 2, atol=1e-3)

"""`SlidingWindow`: what is asked, what is kept, what is reported."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fgmclip.client import (
    MockRequest,
    RefusedError,
    ServerError,
    SettingsError,
    StreamDecision,
    TagMismatchError,
    WindowReset,
)
from fgmclip.client.streams.requests import StreamRequest
from fgmclip.client.streams.window import SlidingWindow
from fgmclip.spec import PublicManifest

WINDOW = 8


def answer(model: Any, request: StreamRequest) -> dict[str, Any]:
    came = model(
        MockRequest(request.model, request.inputs, request.outputs, request.parameters, 1.0)
    )
    return {name: came[name] for name in request.outputs}


def decide(window: SlidingWindow, model: Any) -> list[StreamDecision]:
    return window.take([answer(model, request) for request in window.requests()])


def shapes(request: StreamRequest) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in request.inputs.items()}


def test_what_is_asked_of_whole_frames(manifest: PublicManifest, world: Any, camera: Any) -> None:
    window = SlidingWindow(manifest)
    for index in range(WINDOW - 1):
        assert window.add(camera.sample(index)) is None
        assert not window.due
        assert window.requests() == []
    window.add(camera.sample(7))
    (first,) = window.requests()
    assert first.model == "fgm_clip_edge"
    assert first.parameters == {}
    assert shapes(first) == {"PIXELS_U8": (8, 64, 64, 3), "LUMA_U8": (8, 2, 64, 64)}
    (decision,) = decide(window, world.model)
    assert (decision.index, decision.time, decision.track, decision.samples) == (7, 7 / 8, None, 8)
    window.add(camera.sample(8))
    (second,) = window.requests()
    spec = manifest.spec
    assert spec.motion is not None
    assert shapes(second) == {
        "PIXELS_U8": (1, 64, 64, 3),
        "LUMA_U8": (1, 2, 64, 64),
        "VISUAL_HISTORY": (1, 7, spec.visual.width),
        "MOTION_HISTORY": (1, 7, spec.motion.width),
        "HISTORY_TAG": (1,),
    }
    (decision,) = decide(window, world.model)
    assert (decision.index, decision.samples) == (8, 1)


def test_raw_frames_of_one_request_follow_each_other(
    manifest: PublicManifest, world: Any, raw_camera: Any, frame_of: Any
) -> None:
    window = SlidingWindow(manifest, stride=3, edge=False)
    for index in range(8):
        window.add(raw_camera.sample(index))
    decide(window, world.model)
    for index in range(8, 11):
        window.add(raw_camera.sample(index))
    (request,) = window.requests()
    assert request.model == "fgm_clip_stream"
    expected = np.stack([frame_of(index) for index in range(7, 11)])
    np.testing.assert_array_equal(request.inputs["FRAMES"], expected)


def test_not_taking_an_answer_changes_nothing(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest)
    for index in range(8):
        window.add(camera.sample(index))
    (once,), (again,) = window.requests(), window.requests()
    assert window.due
    for name, value in once.inputs.items():
        np.testing.assert_array_equal(value, again.inputs[name])
    decide(window, world.model)
    assert not window.due


@pytest.mark.parametrize("waiting", [2, 7, 8, 9, 20])
def test_samples_that_wait_go_together_and_the_oldest_go_first(
    manifest: PublicManifest, world: Any, camera: Any, waiting: int
) -> None:
    window = SlidingWindow(manifest)
    for index in range(8):
        window.add(camera.sample(index))
    decide(window, world.model)
    for index in range(8, 8 + waiting):
        window.add(camera.sample(index))
    (decision,) = decide(window, world.model)
    assert decision.samples == min(waiting, WINDOW)
    assert decision.skipped_decisions == waiting - 1
    world.check(decision, 0)


def test_a_late_decision_keeps_the_stride(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest, stride=4)
    made = []
    for index in range(20):
        window.add(camera.sample(index))
        # The one that is due at 11 is made at 13 only.
        if window.due and index not in (11, 12):
            made += [(item.index, item.skipped_decisions) for item in decide(window, world.model)]
    assert made == [(7, 0), (13, 0), (15, 0), (19, 0)]


def test_breaks_are_reported(manifest: PublicManifest, world: Any, camera: Any) -> None:
    window = SlidingWindow(manifest)
    for index in range(9):
        window.add(camera.sample(index))
    assert window.add(camera.sample(12)) == WindowReset("gap", 1.5, 3, 2, ())
    assert not window.due
    assert window.add(camera.sample(13)) is None
    assert window.add(camera.sample(13)) == WindowReset("restart", 13 / 8, 0, 0, ())
    assert window.add(camera.sample(0)) == WindowReset("restart", 0.0, 0, 0, ())


def test_other_frames_start_a_new_window(manifest: PublicManifest, raw_camera: Any) -> None:
    window = SlidingWindow(manifest, edge=False)
    window.add(raw_camera.sample(0))
    sample = raw_camera.sample(1)
    wider = replace(sample, tensors={"FRAMES": np.zeros((2, 16, 40, 3), np.uint8)})
    assert window.add(wider) == WindowReset("frames", 1 / 8, 0, 0, ())
    other = replace(wider, index=2, color={"color_matrix": "bt709"})
    assert window.add(other) == WindowReset("frames", 1 / 8, 0, 0, ())


def test_tracks_of_a_frame_go_together_up_to_the_limits(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    assert (manifest.limits.max_tracks, manifest.limits.max_rows) == (3, 16)
    window = SlidingWindow(manifest)
    for index in range(8):
        window.add(camera.sample(index, "abcde"))
    assert [len(request.inputs["PIXELS_U8"]) for request in window.requests()] == [16, 16, 8]
    assert [item.track for item in decide(window, world.model)] == list("abcde")
    window.add(camera.sample(8, "ebadc"))
    assert [len(request.inputs["PIXELS_U8"]) for request in window.requests()] == [3, 2]
    made = decide(window, world.model)
    assert {item.track for item in made} == set("abcde")
    for item in made:
        world.check(item, 0)


def test_one_failure_of_several_requests_changes_nothing(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest)
    for index in range(8):
        window.add(camera.sample(index, "abcde"))
    first, *others = window.requests()
    broken = answer(world.model, others[-1])
    broken["VISUAL_NEW"] = broken["VISUAL_NEW"] * np.nan
    answers = [answer(world.model, first), answer(world.model, others[0]), broken]
    with pytest.raises(ServerError, match=r"VISUAL_NEW: expected finite \[1, 8, .*NaN"):
        window.take(answers)
    assert len(window.requests()) == 3
    made = decide(window, world.model)
    assert [item.samples for item in made] == [8] * 5


def test_a_young_track_rides_along_and_its_answer_is_withheld(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest)
    for index in range(8):
        window.add(camera.sample(index, "a"))
    decide(window, world.model)
    for index in range(8, 16):
        window.add(camera.sample(index, "ab"))
        (request,) = window.requests()
        assert len(request.inputs["PIXELS_U8"]) == 2
        assert len(request.inputs["VISUAL_HISTORY"]) == 2
        came = answer(world.model, request)
        if index < 15:
            # Whatever a window with a filler gives.
            came["PROBABILITIES"][1] = np.nan
        made = window.take([came])
        assert [item.track for item in made] == (["a"] if index < 15 else ["a", "b"])
        for item in made:
            world.check(item, 0)


def test_tracks_that_end_are_reported_once(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest)
    for index in range(8):
        window.add(camera.sample(index, "ab"))
    assert window.add(camera.sample(8, "b")) == WindowReset("tracks", 1.0, 0, 0, ("a",))
    assert window.due
    # The two decisions that were due are lost with their last track.
    assert window.add(camera.sample(9, ())) == WindowReset("tracks", 9 / 8, 0, 2, ("b",))
    assert not window.due
    assert window.add(camera.sample(10, ())) is None
    assert window.add(camera.sample(11, "c")) is None
    assert window.add(camera.sample(20, "d")) == WindowReset("gap", 2.5, 8, 0, ("c",))


def test_what_is_kept_does_not_grow(manifest: PublicManifest, world: Any, camera: Any) -> None:
    window = SlidingWindow(manifest)
    sizes = []
    for index in range(160):
        # A new track every fourth sample; every answer is lost from sample 80 on.
        window.add(camera.sample(index, ["a", chr(0x400 + index // 4)]))
        if index < 80 and window.due:
            decide(window, world.model)
        sizes.append(len(pickle.dumps(window)))
    assert max(sizes[20:]) <= 1.1 * max(sizes[:20])


def test_another_release_is_asked_with_a_full_window(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest)
    for index in range(9):
        window.add(camera.sample(index))
        if window.due:
            made = decide(window, world.model)
    world.release(8)
    window.add(camera.sample(9))
    with pytest.raises(RefusedError, match="HISTORY_TAG"):
        decide(window, world.model)
    assert window.adopt(world.model.manifest) is None
    (request,) = window.requests()
    assert set(request.inputs) == {"PIXELS_U8", "LUMA_U8"}
    made = decide(window, world.model)
    assert [(item.index, item.samples, item.model_tag) for item in made] == [(9, 8, "m8")]
    world.check(made[0], 0)


def test_a_tag_that_is_not_the_manifests_is_refused(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest)
    for index in range(8):
        window.add(camera.sample(index))
    world.release(8)
    with pytest.raises(TagMismatchError, match=r"TAG: expected e+ as in the manifest, got e8"):
        decide(window, world.model)
    assert window.due


def test_a_release_with_another_head_keeps_the_history(
    manifest: PublicManifest, renamed: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest)
    for index in range(9):
        window.add(camera.sample(index, "abcde"))
        if window.due:
            decide(window, world.model)
    window.add(camera.sample(9, "abcde"))
    # The release changes between the two requests of one decision.
    first, second = window.requests()
    answers = [answer(world.model, first)]
    world.model.manifest = world.transport.manifest = renamed
    answers.append(answer(world.model, second))
    with pytest.raises(TagMismatchError, match=r"MODEL_TAG: expected m+ as in the .* got n+"):
        window.take(answers)
    assert window.adopt(renamed) is None
    made = decide(window, world.model)
    assert [(item.track, item.index, item.samples) for item in made] == [
        (track, 9, 1) for track in "abcde"
    ]
    for item in made:
        world.check(item, 0)
        best = int(item.decision.probabilities.argmax())
        assert item.decision.label == renamed.spec.labels[best]


def test_a_release_that_takes_other_samples_starts_a_new_window(
    manifest: PublicManifest, camera: Any, raw_camera: Any
) -> None:
    spec = manifest.spec
    larger = manifest.replace(
        embedding_tag="x", spec=spec.replace(visual=spec.visual.replace(image_size=96))
    )
    window, raw = SlidingWindow(manifest), SlidingWindow(manifest, edge=False)
    for index in range(8):
        window.add(camera.sample(index))
        raw.add(raw_camera.sample(index))
    assert window.adopt(larger) == WindowReset("release", 7 / 8, 0, 1, ())
    # Frames suit any size.
    assert raw.adopt(larger) is None
    assert raw.due
    with pytest.raises(RefusedError, match=r"PIXELS_U8.*\[1, 96, 96, 3\].*got.*\[1, 64, 64, 3\]"):
        window.add(camera.sample(8))


def test_samples_of_the_other_kind_are_refused(
    manifest: PublicManifest, camera: Any, raw_camera: Any
) -> None:
    with pytest.raises(RefusedError, match=r"expected .*PIXELS_U8.*got .*FRAMES"):
        SlidingWindow(manifest).add(raw_camera.sample(0))
    with pytest.raises(RefusedError, match=r"expected .*FRAMES.*got .*PIXELS_U8"):
        SlidingWindow(manifest, edge=False).add(camera.sample(0))


def test_misshapen_embeddings_are_refused(
    manifest: PublicManifest, world: Any, camera: Any
) -> None:
    window = SlidingWindow(manifest)
    for index in range(8):
        window.add(camera.sample(index))
    came = answer(world.model, window.requests()[0])
    came["MOTION_NEW"] = came["MOTION_NEW"][:, 1:]
    with pytest.raises(ServerError, match=r"MOTION_NEW: expected finite \[1, 8, \d+\], got \[1, 7"):
        window.take([came])
    assert window.due


@pytest.mark.parametrize("stride", [0, -1, 1.0, True, "1"])
def test_a_stride_is_whole_samples(manifest: PublicManifest, stride: Any) -> None:
    with pytest.raises(SettingsError, match="stride: expected whole samples"):
        SlidingWindow(manifest, stride=stride)

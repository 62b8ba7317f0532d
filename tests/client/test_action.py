"""`ActionClient`: what is sent, what is answered, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.client import (
    ActionClient,
    ConnectError,
    ManifestError,
    MockRequest,
    MockTransport,
    ModelNotFoundError,
    RefusedError,
    ServerError,
    TagMismatchError,
    Timeouts,
)
from fgmclip.client.manifest import parse_manifest
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.spec import ClipSpec, ModelSpec, PublicManifest
from fgmclip.spec.manifest import MANIFEST_PARAMETER
from fgmclip.video.damage import Damage
from fgmclip.video.windows import Window


def clip(seed: int = 0, *, frames: int = 9) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (frames, 32, 48, 3), dtype=np.uint8)


@pytest.fixture
def client(transport: MockTransport) -> ActionClient:
    return ActionClient("nowhere:1", transport=transport)


def boxes(tracks: int, frames: int = 9) -> NDArray[np.float32]:
    corners = np.array([[0, 0, 20 + 5 * track, 30] for track in range(tracks)], np.float32)
    return corners[:, None].repeat(frames, axis=1)


def test_the_manifest_is_read_once(client: ActionClient, manifest: PublicManifest) -> None:
    assert client.manifest == manifest
    assert client.manifest is client.manifest


def test_refresh_reads_what_is_published_now(
    client: ActionClient, transport: MockTransport, manifest: PublicManifest
) -> None:
    assert client.manifest.release == 7
    transport.manifest = manifest.replace(release=8)
    assert client.manifest.release == 7
    client.refresh()
    assert client.manifest.release == 8


def test_a_failed_refresh_keeps_the_manifest(
    client: ActionClient, transport: MockTransport, manifest: PublicManifest
) -> None:
    assert client.manifest == manifest
    transport.manifest = manifest.replace(release=8)

    def down(*args: object, **options: object) -> Any:
        raise ConnectError("down")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "model_parameters", down)
        with pytest.raises(ConnectError):
            client.refresh()
        assert client.manifest == manifest


def test_a_decision_names_the_likeliest_class(
    client: ActionClient, manifest: PublicManifest
) -> None:
    decision = client.classify_window(clip())
    best = int(decision.probabilities.argmax())
    assert decision.label == manifest.spec.labels[best]
    assert decision.probability == pytest.approx(decision.probabilities[best])
    assert len(decision.top) == 5
    assert decision.top[0] == (decision.label, decision.probability)
    values = [probability for _, probability in decision.top]
    assert values == sorted(values, reverse=True)
    assert values == sorted(decision.probabilities.tolist(), reverse=True)[:5]
    assert decision.logits.shape == (12,)
    assert decision.embedding.ndim == 1


def test_frames_timeout_and_colour_reach_the_server(transport: MockTransport) -> None:
    client = ActionClient("nowhere:1", timeouts=Timeouts(request_seconds=7), transport=transport)
    frames = clip()
    client.classify_window(frames, color_matrix="bt709", color_range="full")
    (request,) = transport.requests
    assert request.model == "fgm_clip"
    np.testing.assert_array_equal(request.inputs["FRAMES"], frames)
    assert set(request.inputs) == {"FRAMES"}
    assert request.outputs == ("LOGITS", "PROBABILITIES", "EMBEDDING", "MODEL_TAG")
    assert request.parameters == {"color_matrix": "bt709", "color_range": "full"}
    assert request.timeout_seconds == 7


def test_tracks_are_answered_in_their_order(client: ActionClient) -> None:
    frames = clip()
    together = client.classify_tracks(frames, boxes(2))
    assert len(together) == 2
    for index, decision in enumerate(together):
        (alone,) = client.classify_tracks(frames, boxes(2)[index : index + 1])
        np.testing.assert_allclose(decision.logits, alone.logits, atol=1e-6)
    assert not np.allclose(together[0].logits, together[1].logits)


def test_a_weak_answer_is_unknown(
    transport: MockTransport, manifest: PublicManifest, model: Any
) -> None:
    head = manifest.spec.head.replace(unknown_threshold=0.5)
    transport.manifest = manifest.replace(spec=manifest.spec.replace(head=head))
    client = ActionClient("nowhere:1", transport=transport)
    for top, label in ((0.49, "unknown"), (0.51, manifest.spec.labels[3])):
        model.probabilities = np.full(12, (1 - top) / 11, np.float32)
        model.probabilities[3] = top
        decision = client.classify_window(clip())
        assert decision.label == label
        assert decision.probability == pytest.approx(top)
        assert decision.top[0][0] == manifest.spec.labels[3]


NV12 = np.zeros((9, 48, 32, 1), np.uint8)


def test_nv12_is_taken(client: ActionClient) -> None:
    assert client.classify_window(NV12).label


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (clip().astype(np.float32), r"FRAMES: expected u8 .* got float32"),
        ([[0]], r"FRAMES: expected u8 .* got list"),
        (clip()[0], r"expected RGB \[n\+1,H,W,3\] or NV12 .* got \[32, 48, 3\]"),
        (clip()[..., :2], r"got \[9, 32, 48, 2\]"),
        (clip(frames=8), "expected 9 frames .* 8 new ones.*got 8"),
        (clip(frames=10), "expected 9 frames .* got 10"),
        (clip()[:0], "expected 9 frames .* got 0"),
        (np.zeros((9, 1, 1, 3), np.uint8), "at least 16 pixels, got 1x1; send a larger frame"),
        (np.zeros((9, 20, 641, 3), np.uint8), "up to 640 .* got 641x20; scale the frame down"),
        (np.zeros((9, 500, 640, 3), np.uint8), "307200 pixels in all, got 640x500"),
        (NV12[:, :47], "even H and W"),
        (NV12[:, :, :31], "even H and W"),
        (NV12[:, :18], "at least 16 pixels, got 32x12"),
    ],
)
def test_wrong_frames_are_not_sent(
    client: ActionClient, transport: MockTransport, frames: Any, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        client.classify_window(frames)
    assert "\n" not in str(caught.value)
    assert transport.requests == []


@pytest.mark.parametrize(
    ("rois", "words"),
    [
        (boxes(1)[0], r"expected \[R,9,4\]"),
        (boxes(1, frames=8), r"expected \[R,9,4\], .* got \[1, 8, 4\]"),
        (np.zeros((0, 9, 4)), "1 to 3 tracks, got 0"),
        (boxes(4), "1 to 3 tracks, got 4"),
        (boxes(3), "at most 16 tracks times samples, got 3 x 8"),
        (np.full((1, 9, 4), np.nan), "finite"),
        (np.full((1, 9, 4), 5), "x0 < x1"),
        ([["a"]], "expected numbers"),
    ],
)
def test_wrong_boxes_are_not_sent(
    client: ActionClient, transport: MockTransport, rois: Any, words: str
) -> None:
    with pytest.raises(RefusedError, match=words):
        client.classify_tracks(clip(), rois)
    assert transport.requests == []


@pytest.mark.parametrize("choice", [{"color_matrix": "bt2020"}, {"color_range": "tv"}])
def test_an_unknown_colour_is_not_sent(
    client: ActionClient, transport: MockTransport, choice: dict[str, str]
) -> None:
    with pytest.raises(RefusedError, match=next(iter(choice))):
        client.classify_window(clip(), **choice)
    assert transport.requests == []


def test_an_answer_with_other_classes_is_refused(client: ActionClient, model: Any) -> None:
    model.probabilities = np.full(11, 1 / 11, np.float32)
    with pytest.raises(ManifestError, match=r"expected \[R,12\] .* got \[1, 11\]; .* export"):
        client.classify_window(clip())


@pytest.mark.parametrize("classes", [12, 5])
def test_another_release_answers_under_its_own_labels(
    client: ActionClient,
    transport: MockTransport,
    model: Any,
    renamed: PublicManifest,
    classes: int,
) -> None:
    client.classify_window(clip())
    spec = renamed.spec.replace(classes=renamed.spec.classes[:classes])
    transport.manifest = model.manifest = renamed.replace(spec=spec)
    decision = client.classify_window(clip())
    assert client.manifest.release == 8
    assert decision.label == spec.labels[int(decision.probabilities.argmax())]
    transport.requests.clear()
    for decision in client.classify_tracks(clip(), boxes(2)):
        assert decision.label == spec.labels[int(decision.probabilities.argmax())]
    assert len(transport.requests) == 1


def test_an_answer_of_a_release_that_is_not_published_is_refused(
    client: ActionClient, transport: MockTransport, model: Any, renamed: PublicManifest
) -> None:
    model.manifest = renamed
    with pytest.raises(TagMismatchError, match=r"MODEL_TAG: expected m+ as in the .* got n+"):
        client.classify_window(clip())
    assert len(transport.requests) == 3


def test_a_release_with_another_window_says_how_many_frames_it_takes(
    client: ActionClient, transport: MockTransport, model: Any, renamed: PublicManifest
) -> None:
    client.classify_window(clip())
    shorter = renamed.spec.clip.replace(frames=4, window_seconds=0.5)
    spec = renamed.spec.replace(clip=shorter)
    transport.manifest = model.manifest = renamed.replace(spec=spec)
    with pytest.raises(RefusedError, match=r"expected 5 frames .* got 9"):
        client.classify_window(clip())
    assert client.classify_window(clip(frames=5)).label in spec.labels


def test_an_answer_of_nan_is_refused(client: ActionClient, model: Any) -> None:
    model.probabilities = np.full(12, np.nan, np.float32)
    with pytest.raises(ServerError, match="finite"):
        client.classify_window(clip())


class Publishing(MockTransport):
    """A server whose parameters are given, or fail."""

    def __init__(self, parameters: Callable[[], Mapping[str, str]]) -> None:
        self._parameters = parameters

    def model_parameters(self, model: str, *, timeout_seconds: float) -> Mapping[str, str]:
        return self._parameters()


def test_a_server_without_our_manifest_is_refused_with_the_remedy() -> None:
    client = ActionClient("host:1", transport=Publishing(lambda: {"other": "1"}))
    with pytest.raises(ManifestError, match=r"host:1: expected the parameter .* got other; export"):
        _ = client.manifest


def test_a_server_without_our_model_is_refused_with_the_remedy() -> None:
    def missing() -> Mapping[str, str]:
        raise ModelNotFoundError("host:1 does not serve fgm_clip: unknown model")

    client = ActionClient("host:1", transport=Publishing(missing))
    with pytest.raises(ManifestError, match="unknown model; expected a repository"):
        _ = client.manifest


def test_a_failed_reading_of_the_manifest_is_tried_again(manifest: PublicManifest) -> None:
    states = iter([None, manifest])

    def parameters() -> Mapping[str, str]:
        state = next(states)
        if state is None:
            raise ConnectError("down")
        return {MANIFEST_PARAMETER: state.model_dump_json()}

    client = ActionClient("host:1", transport=Publishing(parameters))
    with pytest.raises(ConnectError):
        _ = client.manifest
    assert client.manifest == manifest


def test_another_format_is_refused_before_its_fields(manifest: PublicManifest) -> None:
    with pytest.raises(
        ManifestError, match=r"expected a manifest of format 2, got 1; .* or export it again"
    ):
        parse_manifest('{"format": 1, "everything": "else"}', "host:1")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 2}', '"x"'])
def test_what_is_no_manifest_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ManifestError, match="expected a manifest of format 2") as caught:
        parse_manifest(text, "host:1")
    assert "\n" not in str(caught.value)


def test_a_client_closes_only_what_it_opened(transport: MockTransport) -> None:
    with ActionClient("nowhere:1", transport=transport) as client:
        client.classify_window(clip())
    assert not transport.closed
    with ActionClient("127.0.0.1:1") as client:
        opened = client.transport
    with pytest.raises(ConnectError, match="closed"):
        opened.model_parameters("fgm_clip", timeout_seconds=1)


def stages(frames: NDArray[np.uint8], manifest: PublicManifest) -> dict[str, NDArray[Any]]:
    """Return what is sent of a window, as the server's own step makes it of frames."""
    parameters = replace(PreprocessParameters.from_spec(manifest.spec), flow=None)
    pixels, luma = preprocess_u8(frames, parameters, color_matrix="bt709")
    assert luma is not None
    return {"PIXELS_U8": pixels, "LUMA_U8": luma}


def test_a_video_averages_its_windows(
    client: ActionClient,
    transport: MockTransport,
    manifest: PublicManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips = [clip(seed) for seed in range(3)]

    def windows(path: Path, spec: ModelSpec, damage: Damage) -> Iterator[dict[str, Any]]:
        assert spec == manifest.spec
        damage.frames = 40
        for frames in clips:
            yield stages(frames, manifest)
        damage.lose("a hole")

    monkeypatch.setattr("fgmclip.client.clips.read_clips", windows)
    result = client.classify("some.mp4")
    assert [request.model for request in transport.requests] == ["fgm_clip_edge"] * 3
    single = [
        client.classify_window(frames, color_matrix="bt709").probabilities for frames in clips
    ]
    mean = np.mean(single, axis=0)
    assert result.video == Path("some.mp4")
    assert result.windows == 3
    assert result.label == manifest.spec.labels[int(mean.argmax())]
    assert result.probability == pytest.approx(mean.max(), rel=1e-6)
    assert [value for _, value in result.top] == pytest.approx(sorted(mean)[::-1][:5], rel=1e-6)
    assert result.latency_ms >= 0
    assert (result.frames, result.frames_lost) == (40, 1)


def test_a_server_without_the_edge_model_gets_whole_frames(
    manifest: PublicManifest, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(request: MockRequest) -> Any:
        if request.model == "fgm_clip_edge":
            raise ModelNotFoundError("fgm_clip_edge: unknown model")
        return model(request)

    def windows(path: Path, spec: ClipSpec, *, damage: Damage) -> Iterator[Window]:
        damage.frames = 9
        yield Window(0.0, clip(), 8, False, "bt709", "full")

    monkeypatch.setattr(
        "fgmclip.client.clips.read_clips", lambda *_: iter([stages(clip(), manifest)])
    )
    monkeypatch.setattr("fgmclip.video.windows.read_windows", windows)
    transport = MockTransport(manifest, older)
    result = ActionClient("nowhere:1", transport=transport).classify("some.mp4")
    assert [request.model for request in transport.requests] == ["fgm_clip_edge", "fgm_clip"]
    assert transport.requests[1].parameters == {"color_matrix": "bt709", "color_range": "full"}
    assert (result.windows, result.frames) == (1, 9)


def test_all_windows_of_a_video_are_one_releases(
    client: ActionClient,
    transport: MockTransport,
    model: Any,
    renamed: PublicManifest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shorter = renamed.spec.clip.replace(frames=4, window_seconds=0.5)
    begun: list[int] = []

    def windows(path: Path, spec: ModelSpec, damage: Damage) -> Iterator[dict[str, Any]]:
        begun.append(spec.clip.frames)
        for index in range(3):
            if index == 2 and len(begun) < 3:
                # One release with its classes in another order, then one with another window.
                spec_now = renamed.spec if len(begun) == 1 else renamed.spec.replace(clip=shorter)
                transport.manifest = model.manifest = renamed.replace(
                    model_tag=f"n{len(begun)}", spec=spec_now
                )
            yield stages(clip(index, frames=spec.clip.frames + 1), renamed)

    monkeypatch.setattr("fgmclip.client.clips.read_clips", windows)
    result = client.classify("some.mp4")
    assert begun == [8, 8, 4]
    assert result.windows == 3
    single = [
        client.classify_window(clip(seed, frames=5), color_matrix="bt709").probabilities
        for seed in range(3)
    ]
    mean = np.mean(single, axis=0)
    assert result.label == renamed.spec.labels[int(mean.argmax())]
    assert result.probability == pytest.approx(mean.max(), rel=1e-6)

"""`StreamSession`: the window slides, and its answers are those of whole clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.client import (
    ActionClient,
    ConnectError,
    Decision,
    MockRequest,
    MockTransport,
    RefusedError,
    StreamSession,
    TagMismatchError,
)
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.spec import PublicManifest

WINDOW = 8


def video(samples: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (samples, 16, 20, 3), dtype=np.uint8)


def boxes(tracks: int, frames: int) -> NDArray[np.float32]:
    corners = np.array([[0, 0, 5 + 5 * track, 10] for track in range(tracks)], np.float32)
    return corners[:, None].repeat(frames, axis=1)


@pytest.fixture
def client(transport: MockTransport) -> ActionClient:
    return ActionClient("nowhere:1", transport=transport)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_stream_answers_are_clip_answers_whatever_the_strides(
    manifest: PublicManifest, make_model: Callable[[PublicManifest], Any], data: st.DataObject
) -> None:
    strides = data.draw(st.lists(st.integers(1, WINDOW), max_size=6))
    model = make_model(manifest)
    client = ActionClient("nowhere:1", transport=MockTransport(manifest, model))
    session = StreamSession(client)
    samples = video(WINDOW + 1 + sum(strides), data.draw(st.integers(0, 9)))
    end = WINDOW
    decisions = [(end, session.push(samples[: end + 1]))]
    for stride in strides:
        end += stride
        decisions.append((end, session.push(samples[end - stride : end + 1])))
    assert model.encoded == WINDOW + sum(strides)
    for end, decision in decisions:
        clip = client.classify_window(samples[end - WINDOW : end + 1])
        np.testing.assert_allclose(decision.logits, clip.logits, atol=1e-4)
        assert decision.label == clip.label


def test_what_travels_with_a_request(
    client: ActionClient, transport: MockTransport, manifest: PublicManifest
) -> None:
    motion = manifest.spec.motion
    assert motion is not None
    samples = video(12)
    session = StreamSession(client, color_matrix="bt709")
    session.push(samples[:9])
    session.push(samples[8:12])
    first, second = transport.requests
    assert first.model == second.model == "fgm_clip_stream"
    assert set(first.inputs) == {"FRAMES"}
    assert {name: value.shape for name, value in second.inputs.items()} == {
        "FRAMES": (4, 16, 20, 3),
        "VISUAL_HISTORY": (1, 5, manifest.spec.visual.width),
        "MOTION_HISTORY": (1, 5, motion.width),
        "HISTORY_TAG": (1,),
    }
    assert second.inputs["HISTORY_TAG"].tolist() == [b"e" * 16]
    assert second.parameters == {"color_matrix": "bt709"}
    assert set(second.outputs) == {
        "LOGITS",
        "PROBABILITIES",
        "EMBEDDING",
        "VISUAL_NEW",
        "MODEL_TAG",
        "MOTION_NEW",
        "TAG",
    }


def test_an_edge_session_sends_the_u8_stages_of_its_own_colours(manifest: PublicManifest) -> None:
    motion = manifest.spec.motion
    assert motion is not None
    # A server of another flow version: the flow is not computed here.
    other = motion.replace(flow=motion.flow.replace(version=motion.flow.version + 1))
    manifest = manifest.replace(spec=manifest.spec.replace(motion=other))
    width, motion_width = manifest.spec.visual.width, motion.width

    def answer(request: MockRequest) -> dict[str, NDArray[Any]]:
        new = len(request.inputs["PIXELS_U8"])
        return {
            "LOGITS": np.zeros((1, len(manifest.spec.labels)), np.float32),
            "PROBABILITIES": np.full((1, len(manifest.spec.labels)), 1 / 12, np.float32),
            "EMBEDDING": np.zeros((1, 6), np.float32),
            "VISUAL_NEW": np.zeros((1, new, width), np.float32),
            "MOTION_NEW": np.zeros((1, new, motion_width), np.float32),
            "TAG": np.array([manifest.embedding_tag.encode()], dtype=object),
            "MODEL_TAG": np.array([manifest.model_tag.encode()], dtype=object),
        }

    transport = MockTransport(manifest, answer)
    session = StreamSession(
        ActionClient("nowhere:1", transport=transport), edge=True, color_matrix="bt709"
    )
    samples = video(11)
    session.push(samples[:9])
    session.push(samples[8:11])
    parameters = replace(PreprocessParameters.from_spec(manifest.spec), flow=None)
    pixels_u8, luma_u8 = preprocess_u8(samples[8:11], parameters, color_matrix="bt709")
    first, second = transport.requests
    assert first.model == second.model == "fgm_clip_edge"
    assert first.parameters == {}
    assert set(first.inputs) == {"PIXELS_U8", "LUMA_U8"}
    np.testing.assert_array_equal(second.inputs["PIXELS_U8"], pixels_u8)
    assert luma_u8 is not None
    np.testing.assert_array_equal(second.inputs["LUMA_U8"], luma_u8)
    assert second.inputs["VISUAL_HISTORY"].shape == (1, 6, width)


def test_a_model_without_motion_has_no_motion_tensors(
    manifest: PublicManifest, make_model: Callable[[PublicManifest], Any]
) -> None:
    align = manifest.spec.align.replace(method="none")
    still = manifest.replace(spec=manifest.spec.replace(motion=None, align=align))
    transport = MockTransport(still, make_model(still))
    session = StreamSession(ActionClient("nowhere:1", transport=transport))
    samples = video(10)
    session.push(samples[:9])
    session.push(samples[8:10])
    for request in transport.requests:
        assert not [name for name in (*request.inputs, *request.outputs) if "MOTION" in name]


def test_tracks_keep_their_own_histories(client: ActionClient) -> None:
    samples = video(11)
    session = StreamSession(client)
    session.push_tracks(samples[:9], boxes(2, 9))
    together = session.push_tracks(samples[8:11], boxes(2, 3))
    expected = client.classify_tracks(samples[2:11], boxes(2, 9))
    for decision, clip in zip(together, expected, strict=True):
        np.testing.assert_allclose(decision.logits, clip.logits, atol=1e-4)


def test_another_number_of_tracks_is_refused(client: ActionClient) -> None:
    samples = video(11)
    session = StreamSession(client)
    session.push_tracks(samples[:9], boxes(2, 9))
    with pytest.raises(RefusedError, match=r"expected 2 tracks .* got 1; reset"):
        session.push_tracks(samples[8:10], boxes(1, 2))
    with pytest.raises(RefusedError, match="expected 2 tracks"):
        session.push(samples[8:10])


@pytest.mark.parametrize("count", [0, 1, 2, 8, 10])
def test_the_first_push_fills_the_window(
    client: ActionClient, transport: MockTransport, count: int
) -> None:
    session = StreamSession(client)
    with pytest.raises(RefusedError, match=rf"expected 9 frames .* got {count}"):
        session.push(video(count))
    assert session.empty
    assert transport.requests == []


@pytest.mark.parametrize("count", [0, 1, 10])
def test_later_pushes_bring_one_to_t_samples(client: ActionClient, count: int) -> None:
    session = StreamSession(client)
    session.push(video(9))
    with pytest.raises(RefusedError, match=rf"expected 2 to 9 frames .* got {count}"):
        session.push(video(count))


def test_a_failed_request_changes_nothing(
    client: ActionClient, transport: MockTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = video(10)
    session = StreamSession(client)
    session.push(samples[:9])

    def down(*args: object, **options: object) -> Any:
        raise ConnectError("down")

    with monkeypatch.context() as patch:
        patch.setattr(transport, "infer", down)
        with pytest.raises(ConnectError):
            session.push(samples[8:10])
    decision = session.push(samples[8:10])
    clip = client.classify_window(samples[1:10])
    np.testing.assert_allclose(decision.logits, clip.logits, atol=1e-4)


def test_a_history_of_another_release_is_refused_until_reset(
    client: ActionClient, transport: MockTransport, model: Any, manifest: PublicManifest
) -> None:
    samples = video(11)
    session = StreamSession(client)
    session.push(samples[:9])
    changed = manifest.replace(release=8, embedding_tag="f" * 16)
    transport.manifest = model.manifest = changed
    for _ in range(2):
        with pytest.raises(TagMismatchError, match=r"HISTORY_TAG: expected f+, got e+; reset"):
            session.push(samples[8:10])
    session.reset()
    assert session.empty
    decision = session.push(samples[1:10])
    assert client.manifest.release == 8
    np.testing.assert_array_equal(decision.logits, client.classify_window(samples[1:10]).logits)
    session.push(samples[9:11])


def named(decision: Decision, manifest: PublicManifest) -> bool:
    """Return whether the likeliest actions are called as a release calls them."""
    labels = dict(zip(manifest.spec.labels, decision.probabilities.tolist(), strict=True))
    return all(labels[label] == probability for label, probability in decision.top)


def test_a_full_window_is_answered_by_whatever_release_is_served(
    client: ActionClient, transport: MockTransport, model: Any, renamed: PublicManifest
) -> None:
    session = StreamSession(client)
    assert client.manifest.release == 7
    model.weights = 1
    transport.manifest = model.manifest = renamed.replace(embedding_tag="f" * 16)
    samples = video(10)
    decision = session.push(samples[:9])
    assert client.manifest.release == 8
    assert named(decision, renamed)
    np.testing.assert_array_equal(decision.logits, client.classify_window(samples[:9]).logits)
    session.push(samples[8:10])


@pytest.mark.parametrize("edge", [False, True])
def test_a_release_with_another_head_goes_on_with_the_history(
    client: ActionClient,
    transport: MockTransport,
    model: Any,
    manifest: PublicManifest,
    renamed: PublicManifest,
    edge: bool,
) -> None:
    samples = video(14)
    session = StreamSession(client, edge=edge)
    session.push(samples[:9])
    for end, release in enumerate((manifest, renamed, renamed, manifest), start=10):
        transport.manifest = model.manifest = release
        decision = session.push(samples[end - 2 : end])
        assert named(decision, release)
        assert transport.requests[-1].inputs["VISUAL_HISTORY"].shape[1] == WINDOW - 1
        clip = client.classify_window(samples[end - 9 : end])
        np.testing.assert_allclose(decision.logits, clip.logits, atol=1e-4)


def test_tracks_of_a_release_with_fewer_classes(
    client: ActionClient, transport: MockTransport, model: Any, renamed: PublicManifest
) -> None:
    samples = video(10)
    session = StreamSession(client)
    session.push_tracks(samples[:9], boxes(2, 9))
    fewer = renamed.replace(spec=renamed.spec.replace(classes=renamed.spec.classes[:5]))
    transport.manifest = model.manifest = fewer
    decided = session.push_tracks(samples[8:10], boxes(2, 2))
    assert [len(decision.probabilities) for decision in decided] == [5, 5]
    assert all(named(decision, fewer) for decision in decided)


def test_a_window_of_another_length_loses_the_history(
    client: ActionClient, transport: MockTransport, model: Any, renamed: PublicManifest
) -> None:
    samples = video(10)
    session = StreamSession(client)
    session.push(samples[:9])
    # dt is the same, so the embeddings' tag is.
    clip = renamed.spec.clip.replace(frames=4, window_seconds=0.5)
    transport.manifest = model.manifest = renamed.replace(spec=renamed.spec.replace(clip=clip))
    with pytest.raises(TagMismatchError, match="reset the session"):
        session.push(samples[8:10])
    session.reset()
    assert session.push(samples[5:10]).label


def test_an_answer_that_no_manifest_names_is_refused(
    client: ActionClient, transport: MockTransport, model: Any, renamed: PublicManifest
) -> None:
    session = StreamSession(client)
    session.push(video(9))
    # The manifest still is the old one's, the answers are the new one's.
    model.manifest = renamed
    with pytest.raises(TagMismatchError, match=r"MODEL_TAG: expected m+ as in the .* got n+"):
        session.push(video(2))
    assert not session.empty
    transport.manifest = renamed
    assert named(session.push(video(2)), renamed)


def test_other_refusals_are_not_taken_for_a_foreign_tag(
    client: ActionClient, transport: MockTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> Any:
        raise RefusedError("MOTION_HISTORY: expected finite values, got NaN or infinity")

    monkeypatch.setattr(transport, "infer", refuse)
    with pytest.raises(RefusedError) as caught:
        StreamSession(client).push(video(9))
    assert not isinstance(caught.value, TagMismatchError)

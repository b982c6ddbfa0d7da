"""The examples view: what flipped, each picture sent once, and an image of one's own."""

from __future__ import annotations

import io
import itertools
import zlib
from struct import pack
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import IMAGES, TOTAL, FakeSession, flips_of
from widgets.examples.flipped import Arrangement, SettledAnswers
from widgets.examples.own_image import MAX_BYTES, Incoming, read_picture
from widgets.examples.pixels import SMALL, Palette
from widgets.examples.view import STRIP, WHOLE, ExamplesView
from workbench.data.dataset import Split
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
HARSH = "- prune: {ratio: 0.9}\n- quantize: {bits: 2}"


def rows(view: ExamplesView) -> np.ndarray:
    return np.frombuffer(view.flips, np.float32).reshape(-1, 7)


def images(view: ExamplesView) -> list[int]:
    return rows(view)[:, 0].astype(int).tolist()


def settle(view: ExamplesView, session: FakeSession, recipe: str = "") -> None:
    if recipe:
        session.apply(Recipe.parse(recipe))
    while session.step():
        pass
    wanted = session.recipe.hash
    wait_until(view, "about", lambda about: about.get("recipe") == wanted and about["settled"])


def ask(view: ExamplesView, do: str, *buffers: bytes, **content: Any) -> None:
    view._handle_custom_msg({"do": do, **content}, [memoryview(buffer) for buffer in buffers])


def upload(view: ExamplesView, content: bytes, name: str = "bag.png", piece: int = 1 << 20) -> None:
    for at in range(0, len(content), piece):
        ask(view, "upload", content[at : at + piece], name=name, size=len(content), at=at)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, kind, **options)
    return target.getvalue()


@pytest.fixture
def strip(session: FakeSession) -> Any:
    view = ExamplesView(session, strip=True)
    settle(view, session)
    yield view
    view.close()


@pytest.fixture
def whole(session: FakeSession) -> Any:
    view = ExamplesView(session)
    settle(view, session)
    yield view
    view.close()


# What is shown


def test_the_strip_shows_the_first_flips_and_all_counts(strip: ExamplesView, session: FakeSession) -> None:
    assert images(strip) == []
    settle(strip, session, HARSH)
    flips = flips_of(session.recipe)
    assert images(strip) == [flip.image for _, flip in flips[:STRIP]]
    assert strip.about["counts"] == [len(flips), 0, 0]
    assert strip.about["total"] == TOTAL
    first = rows(strip)[0]
    flip = flips[0][1]
    assert first[1:6].tolist() == pytest.approx(
        [flip.label, flip.before, flip.before_confidence, flip.after, flip.after_confidence]
    )


def test_a_move_sends_flips_at_most_three_times_and_under_ten_kilobytes(
    strip: ExamplesView, session: FakeSession, sent: list[Any]
) -> None:
    for recipe in (HARSH, "- prune: {ratio: 0.5}", "- quantize: {bits: 3}"):
        sent.clear()
        settle(strip, session, recipe)
        assert 1 <= len(sent) <= 3
        ask(strip, "images", images=images(strip))
        assert sum(size for _, size in sent) < 10_000


def test_unchanged_flips_are_not_sent_again(strip: ExamplesView, session: FakeSession, sent: list[Any]) -> None:
    settle(strip, session, HARSH)
    sent.clear()
    session.measure_latency()
    strip.draw(session.snapshot)
    assert sent == []


def test_new_flips_come_first_and_keep_their_place(session: FakeSession) -> None:
    session.apply(Recipe.parse(HARSH))
    looks = []
    while session.step():
        looks.append(session.snapshot)
    seen = [look for look in looks if look.flips]
    old = {flip.image for flip in seen[-1].flips[::2]}
    before = IMAGES.labels.numpy().copy()
    before[list(old)] = (before[list(old)] + 1) % 10
    arrangement = Arrangement(STRIP)
    drawn = [shown for look in seen if (shown := arrangement.follow(look, before)) is not None]
    assert 2 <= len(drawn) <= 3
    for early, late in itertools.pairwise(drawn):
        assert [one.flip.image for one in late[: len(early)]] == [one.flip.image for one in early]
    for one in drawn[-1]:
        assert one.new == (one.flip.image not in old)
    fresh = [one.new for one in drawn[0]]
    assert fresh == sorted(fresh, reverse=True)


def test_the_setting_before_is_the_last_that_settled(session: FakeSession) -> None:
    settled = SettledAnswers(session)
    names = []
    for recipe in ("[]", "- quantize: {bits: 4}", "- quantize: {bits: 3}"):
        session.apply(Recipe.parse(recipe))
        while session.step():
            pass
        names.append(session.recipe.hash)
        settled.settle(session.recipe)
    record = session.history.find(session.key, names[1])
    assert np.array_equal(settled.before(names[2]), session.history.predictions(record.id))
    assert settled.before("another") is not None
    fresh = SettledAnswers(session)
    fresh.settle(Recipe())
    assert fresh.before(names[1]) is None  # after the dense model every flip is new


def test_an_unkept_history_leaves_the_counts_out(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_keep", lambda _: None)
    view = ExamplesView(session, strip=True)
    settle(view, session, HARSH)
    assert view.about["counts"] is None
    assert len(images(view)) == STRIP
    assert view.about["changed"] == pytest.approx(len(flips_of(session.recipe)) / TOTAL)
    view.close()


# Pictures


def test_pictures_are_sent_to_who_asks_and_nonsense_is_left_out(strip: ExamplesView, sent: list[Any]) -> None:
    sent.clear()
    ask(strip, "images", images=[5, 7, 5, -1, TOTAL])
    ((data, size),) = sent
    assert data["content"]["images"] == [5, 7]
    assert size < 4_000
    ask(strip, "images", images=[-1])
    ask(strip, "images")
    assert len(sent) == 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 224, 160), (2, 8, 8), (1, 1, 1)])
def test_small_pictures_of_any_images(shape: tuple[int, ...]) -> None:
    split = Split("test", torch.randint(0, 256, (4, *shape), dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    content, (height, width) = Palette(split).sheet([0, 3])
    assert max(height, width) <= SMALL
    with Image.open(io.BytesIO(content)) as sheet:
        assert sheet.size == (width, 2 * height)


def test_floats_are_shown_from_the_least_to_the_largest_of_the_split() -> None:
    values = torch.linspace(-2, 6, 2 * 16).reshape(2, 1, 4, 4)
    values[0, 0, 0, 1] = float("nan")
    palette = Palette(Split("test", values, torch.zeros(2, dtype=torch.int64)))
    assert palette.picture(values[0], 32).min() == 0
    assert palette.picture(values[1], 32).max() == 255
    pixels = palette.picture(values[1], 32)
    assert torch.allclose(palette.image(pixels), values[1], atol=8 / 255)


def test_large_images_are_averaged_down() -> None:
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    split = Split("test", checks.to(torch.uint8)[None, None], torch.zeros(1, dtype=torch.int64))
    small = Palette(split).picture(split.images[0], SMALL)
    assert small.shape == (SMALL, SMALL, 1)
    assert set(np.unique(small)) <= {127, 128}


# A closer look


def test_a_closer_look_shows_the_pixels_and_both_models_best(whole: ExamplesView, session: FakeSession) -> None:
    settle(whole, session, HARSH)
    image = images(whole)[0]
    ask(whole, "look", image=image)
    detail = wait_until(whole, "detail", lambda detail: "dense" in detail)
    assert (detail["image"], detail["label"]) == (image, int(IMAGES.labels[image]))
    assert np.array_equal(np.frombuffer(whole.detail_pixels, np.uint8), IMAGES.images[image].numpy().ravel())
    assert len(detail["dense"]) == len(detail["compressed"]) == 3
    assert detail["dense"][0][0] != detail["compressed"][0][0]
    settle(whole, session, "[]")
    again = wait_until(whole, "detail", lambda detail: detail["recipe"] == "dense")
    assert again["dense"] == again["compressed"]


def test_images_that_are_not_there_cannot_be_looked_at(whole: ExamplesView) -> None:
    for nonsense in (TOTAL, -1, None, "x"):
        ask(whole, "look", image=nonsense)
    assert whole.detail == {}


# An image of one's own


def test_a_drawing_is_answered_by_both_models_and_again_when_the_recipe_settles(
    whole: ExamplesView, session: FakeSession
) -> None:
    ask(whole, "draw", bytes([200] * 784))
    own = wait_until(whole, "own", bool)
    assert own["name"] == "drawing"
    assert own["dense"][0] == [int(200 / 25.6), pytest.approx(0.55)]
    assert own["dense"] == own["compressed"]
    settle(whole, session, "- quantize: {bits: 2}")
    again = wait_until(whole, "own", lambda own: own["recipe"] == "2 bit")
    assert again["compressed"][0][0] == own["dense"][0][0] + 1
    whole.set_state({"invert": True})
    inverted = wait_until(whole, "own", lambda own: own["dense"] != again["dense"])
    assert inverted["dense"][0][0] == int(55 / 25.6)
    ask(whole, "draw", bytes(784))
    assert whole.own == {}


def test_a_drawing_of_another_size_is_refused_in_a_sentence(whole: ExamplesView) -> None:
    ask(whole, "draw", bytes(10))
    assert "size" in whole.problem
    assert whole.own == {}


def test_a_file_comes_in_pieces_and_is_shown_as_the_model_sees_it(whole: ExamplesView) -> None:
    big = np.zeros((300, 400, 3), np.uint8)
    big[:, 200:] = 255
    content = encoded(big, "JPEG", quality=95)
    upload(whole, content, "bag.jpg", piece=1_000)
    own = wait_until(whole, "own", bool)
    assert own["name"] == "bag.jpg"
    seen = np.frombuffer(whole.own_pixels, np.uint8).reshape(28, 28)
    assert seen[:, :10].max() < 10
    assert seen[:, 18:].min() > 245
    assert whole.problem == ""
    serial = whole.own_serial
    upload(whole, content, "bag.jpg")
    wait_until(whole, "own_serial", lambda now: now > serial)


def test_what_is_no_image_is_said_and_the_last_image_stays(whole: ExamplesView) -> None:
    ask(whole, "draw", bytes([200] * 784))
    own = wait_until(whole, "own", bool)
    upload(whole, b"hello, world", "notes.txt")
    wait_until(whole, "problem", bool)
    assert whole.problem == "'notes.txt' is no image that can be read (PNG, JPEG and WebP can)."
    assert whole.own == own


def test_pieces_that_do_not_fit_together_are_refused(whole: ExamplesView) -> None:
    ask(whole, "upload", b"abc", name="bag.png", size=10, at=0)
    ask(whole, "upload", b"abc", name="bag.png", size=10, at=6)
    assert whole.problem == "'bag.png' did not arrive whole; choose it again."
    ask(whole, "upload", b"rest", name="bag.png", size=10, at=3)  # of the one that was refused
    assert whole.own == {}


def test_a_file_that_is_too_large_is_refused_before_it_is_sent() -> None:
    with pytest.raises(WorkbenchError, match=r"'x.png' has 30 MB; an image may have 20 MB"):
        Incoming("x.png", 30_000_000)
    Incoming("x.png", MAX_BYTES)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_files_are_read_in_the_models_size_and_channels(kind: str, shape: tuple[int, ...]) -> None:
    red = np.zeros((50, 90, 3), np.uint8)
    red[..., 0] = 250
    pixels = read_picture("red", encoded(red, kind), shape)
    assert pixels.shape == (shape[1], shape[2], 3 if shape[0] == 3 else 1)
    assert pixels.dtype == np.uint8
    if shape == COLOUR:
        assert pixels[..., 0].min() > 240
        assert pixels[..., 1:].max() < 15


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_files_of_any_mode_are_read(mode: str) -> None:
    grey = Image.fromarray(np.full((40, 40), 200, np.uint8))
    picture = Image.fromarray(np.full((40, 40), 200 << 8, np.uint16)) if mode == "I;16" else grey.convert(mode)
    target = io.BytesIO()
    picture.save(target, "TIFF" if mode == "CMYK" else "PNG")
    pixels = read_picture("image", target.getvalue(), GREY)
    assert abs(pixels.mean() - (255 if mode == "1" else 200)) < 60


def test_a_photo_is_turned_as_the_camera_noted() -> None:
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    pixels = read_picture("photo", encoded(half, "JPEG", exif=exif.tobytes()), GREY)[..., 0]
    assert pixels[:, 20:].min() > 200
    assert pixels[:, :8].max() < 50


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_half_a_file_is_said_to_be_cut_off_or_unreadable(kind: str) -> None:
    content = encoded(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8), kind)
    for part in (content[: len(content) // 2], content[:20], b""):
        with pytest.raises(WorkbenchError, match=r"cut off|no image that can be read"):
            read_picture("half", part, GREY)


def test_a_file_that_unfolds_to_too_many_pixels_is_refused_unread() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + name + data + pack(">I", zlib.crc32(name + data))

    for side in (9_000, 60_000):
        head = chunk(b"IHDR", pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
        with pytest.raises(WorkbenchError, match="make it smaller"):
            read_picture("bomb", bomb, GREY)


def test_another_session_takes_nothing_over(whole: ExamplesView) -> None:
    ask(whole, "draw", bytes([200] * 784))
    wait_until(whole, "own", bool)
    other = FakeSession(auto=False)
    whole.attach(other)
    assert (whole.own, whole.detail, whole.flips) == ({}, {}, b"")
    other.close()


def test_the_figure_shows_the_flipped_images(whole: ExamplesView, session: FakeSession) -> None:
    assert [text.get_text() for text in whole.figure().axes[0].texts] == ["No answer changed."]
    settle(whole, session, HARSH)
    figure = whole.figure()
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 16
    flip = flips_of(session.recipe)[0][1]
    texts = [text.get_text() for text in drawn[0].texts]
    assert texts == [f"{'abcdefghij'[flip.before]} 60%", f"→ {'abcdefghij'[flip.after]} 50%"]


def test_the_whole_view_shows_as_many_as_a_look_tells(whole: ExamplesView, session: FakeSession) -> None:
    settle(whole, session, HARSH)
    assert len(images(whole)) == WHOLE

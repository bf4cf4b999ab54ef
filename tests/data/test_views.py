import numpy as np
import pytest

from kdtf.config import ViewConfig
from kdtf.data import views as module
from kdtf.data.dataset import Split
from kdtf.data.load import load
from kdtf.data.pixels import resize
from kdtf.data.views import Views, computed_views, draw_views, read_views
from kdtf.errors import UserError

STILL = ViewConfig(flip=False, shift=0, rotate=0, zoom=0, brightness=0, contrast=0)


def split_of(shape=(5, 16, 16, 3), teacher_side=None):
    """Smooth images, so that a warp changes them little; the teacher's are the larger ones."""
    n, height, width, channels = shape
    coarse = np.random.default_rng(7).integers(0, 256, (n, 5, 5, channels), dtype=np.uint8)
    teacher = resize(coarse, teacher_side or (height, width))
    pixels = resize(teacher, (height, width)) if teacher_side else teacher
    return Split(pixels, np.zeros(n, np.int64), None, teacher)


def drawn(split, out, seed=0, **policy) -> Views:
    views = computed_views(split, seed=seed, policy=ViewConfig(**policy))
    draw_views(views, out)
    return read_views(out, views)


@pytest.mark.parametrize("shape", [(5, 16, 16, 3), (5, 16, 16, 1), (5, 12, 20, 3), (1, 20, 12, 1)])
def test_view_0_is_the_image_and_the_others_are_not(tmp_path, shape):
    split = split_of(shape)
    views = drawn(split, tmp_path / "v.npy", 0, views=3)
    assert views.pixels.shape == (3, *shape) and views.pixels.dtype == np.uint8
    assert isinstance(views.pixels, np.memmap) and not views.pixels.flags.writeable
    assert np.array_equal(views.pixels[0], split.pixels) and views.teacher_pixels is views.pixels
    assert all((views.pixels[v] != split.pixels).any() for v in (1, 2))
    assert (views.pixels[1] != views.pixels[2]).any()


def test_the_same_seed_draws_the_same_and_another_does_not(tmp_path):
    split = split_of()
    a, b, c = (drawn(split, tmp_path / f"{i}.npy", seed, views=2).pixels for i, seed in enumerate((4, 4, 5)))
    assert np.array_equal(a, b) and (a[1] != c[1]).any()


@pytest.mark.parametrize("teacher_side", [None, 24])
def test_neither_the_number_of_views_nor_the_chunks_change_a_view(tmp_path, monkeypatch, teacher_side):
    split = split_of(teacher_side=teacher_side)
    few = drawn(split, tmp_path / "few.npy", 1, views=2)
    monkeypatch.setattr(module, "CHUNK_BYTES", 2 * split.pixels[0].nbytes)
    many = drawn(split, tmp_path / "many.npy", 1, views=5)
    assert np.array_equal(many.pixels[:2], few.pixels)
    assert np.array_equal(many.teacher_pixels[:2], few.teacher_pixels)


def test_an_image_keeps_its_views_when_images_follow_it(tmp_path):
    split = split_of()
    first = split.pixels[:3]
    whole = drawn(split, tmp_path / "a.npy", 1, views=3).pixels
    part = drawn(Split(first, split.labels[:3], None, first), tmp_path / "b.npy", 1, views=3).pixels
    assert np.array_equal(part, whole[:, :3])


@pytest.mark.parametrize("shape, teacher_side", [((5, 16, 16, 3), 24), ((5, 12, 20, 1), (24, 40))])
def test_the_student_sees_what_the_teacher_sees(tmp_path, shape, teacher_side):
    split = split_of(shape, teacher_side)
    views = drawn(split, tmp_path / "v.npy", 0, views=3)
    assert np.array_equal(views.pixels[0], split.pixels)
    assert np.array_equal(views.teacher_pixels[0], split.teacher_pixels)
    for v in (1, 2):
        assert np.array_equal(views.pixels[v], resize(views.teacher_pixels[v], shape[1:3]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["v.npy", "v_teacher.npy"]


def warped(pixels, policy, **draws):
    """One warp with chosen draws; 0.5 draws the middle: nothing happens. `flip` is below 0.5 for yes."""
    names = ("flip", "x", "y", "angle", "zoom", "brightness", "contrast")
    row = [draws.get(name, 0.5) for name in names]
    return module._warp(pixels, np.array([row] * len(pixels)), policy)


@pytest.mark.parametrize("side, shape", [(8, (8, 8)), ((6, 10), (6, 10)), (None, (16, 16)), (16, (16, 16))])
def test_the_student_may_look_at_another_side(side, shape):
    views = computed_views(split_of(teacher_side=24), seed=0, policy=ViewConfig(views=3))
    other, rows = views.at_side(side), np.array([3, 1])
    assert other.shape == (3, 5, *shape, 3)
    if shape == (16, 16):
        assert other is views.pixels
    else:
        assert np.array_equal(other[1, rows], resize(views.teacher_pixels[1, rows], shape))


def test_a_policy_that_allows_nothing_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 9, 14, 3), dtype=np.uint8)
    assert np.array_equal(
        warped(pixels, STILL, flip=0, x=1, y=0, angle=1, zoom=0, brightness=1, contrast=0), pixels
    )


def test_flip_and_shift_move_pixels_exactly_and_repeat_the_edge():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 10, 20, 3), dtype=np.uint8)
    assert np.array_equal(warped(pixels, ViewConfig(), flip=0), pixels[:, :, ::-1])
    right = warped(pixels, ViewConfig(), x=1)  # 10 % of 20: reads two columns further on
    assert np.array_equal(right[:, :, :-2], pixels[:, :, 2:])
    assert np.array_equal(right[:, :, -1], pixels[:, :, -1])
    down = warped(pixels, ViewConfig(), y=0)
    assert np.array_equal(down[:, 1:], pixels[:, :-1]) and np.array_equal(down[:, 0], pixels[:, 0])


def test_rotation_turns_about_the_centre():
    pixels = np.zeros((1, 41, 41, 1), np.uint8)
    pixels[0, 20, 20] = pixels[0, 20, 34] = 250  # the centre, and 14 to its right
    turned = warped(pixels, ViewConfig(rotate=45, contrast=0), angle=1)[0, ..., 0]
    assert turned[20, 20] == 250 and turned[20, 34] == 0
    assert turned[10, 30] > 200  # 14 / sqrt(2) is 9.9


def test_zoom_changes_the_size_about_the_centre():
    pixels = np.zeros((1, 40, 40, 1), np.uint8)
    pixels[0, 10:30, 10:30] = 200  # 20 wide
    for draw, width in ((1, 30), (0, 10)):
        zoomed = warped(pixels, ViewConfig(zoom=0.5), zoom=draw)[0, ..., 0]
        for profile in (zoomed[20] > 100, zoomed[:, 20] > 100):
            assert profile.sum() == width and profile[20 - width // 2] and profile[19 + width // 2]


def test_tones_by_value_and_clipped():
    pixels = np.array([[100, 200], [0, 100]], np.uint8).reshape(1, 2, 2, 1)  # mean 100
    policy = ViewConfig(brightness=0.5, contrast=0.5)
    assert warped(pixels, policy, brightness=1).ravel().tolist() == [150, 255, 0, 150]
    assert warped(pixels, policy, contrast=1).ravel().tolist() == [100, 250, 0, 100]
    assert warped(pixels, policy, contrast=0).ravel().tolist() == [100, 150, 50, 100]


@pytest.mark.parametrize("value", [0, 37, 255])
@pytest.mark.parametrize("shape", [(30, 17, 33, 1), (30, 33, 17, 3)])
def test_no_corner_turns_black(value, shape):
    policy = ViewConfig(shift=0.5, rotate=45, zoom=0.5, brightness=0, contrast=0)
    draws = np.random.default_rng(0).random((30, 7)).round()  # the extremes alone
    assert np.all(module._warp(np.full(shape, value, np.uint8), draws, policy) == value)


def test_half_of_the_views_are_mirrored(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 6, 6, 1), dtype=np.uint8)
    still = {"shift": 0, "rotate": 0, "zoom": 0, "brightness": 0, "contrast": 0}
    view = drawn(Split(pixels, None, None, pixels), tmp_path / "v.npy", views=2, **still).pixels[1]
    mirrored = (view == pixels[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 80 <= mirrored.sum() <= 120 and np.array_equal(view[~mirrored], pixels[~mirrored])


def test_progress_counts_every_image_of_both_copies(tmp_path):
    reports, split = [], split_of(teacher_side=24)
    views = computed_views(split, seed=0, policy=ViewConfig(views=3))
    draw_views(views, tmp_path / "v.npy", progress=lambda *counts: reports.append(counts))
    assert reports[-1] == (30, 30) and reports == sorted(reports)


@pytest.mark.parametrize("teacher_side", [None, 24])
def test_computed_views_are_the_stored_ones_byte_for_byte(tmp_path, teacher_side):
    split = split_of((9, 16, 16, 3), teacher_side)
    computed = computed_views(split, seed=4, policy=ViewConfig(views=4))
    draw_views(computed, tmp_path / "v.npy")
    stored, rng = read_views(tmp_path / "v.npy", computed), np.random.default_rng(0)
    for one, other in zip(
        (computed.pixels, computed.teacher_pixels), (stored.pixels, stored.teacher_pixels), strict=True
    ):
        assert isinstance(other, np.memmap) and one.shape == other.shape
        assert np.array_equal(one[2, :], other[2]) and np.array_equal(one[0, 3:5], other[0, 3:5])
        for _ in range(5):  # any view of any image, in any order, one twice
            views, images = rng.integers(4, size=12), rng.integers(9, size=12)
            assert np.array_equal(one[views, images], other[views, images])


def test_an_image_of_some_rows_has_the_views_it_has_among_all():
    split, policy = split_of(), ViewConfig(views=3)
    rows = np.array([4, 1])
    some = computed_views(split, seed=2, policy=policy, rows=rows).pixels
    assert some.shape == (3, 2, 16, 16, 3)
    assert np.array_equal(some[1, :], computed_views(split, seed=2, policy=policy).pixels[1, rows])


def test_a_view_is_made_of_the_numbers_of_its_seed_view_and_image():
    rows, views = np.array([3, 0, 3, 17]), np.array([1, 2, 2, 1])
    whole = {v: np.random.default_rng([5, v]).random((20, 7)) for v in (1, 2)}
    assert np.array_equal(
        module._draws(5, views, rows), [whole[v][r] for v, r in zip(views, rows, strict=True)]
    )


def test_the_student_alone_may_be_stored(tmp_path):
    computed = computed_views(split_of(teacher_side=24), seed=0, policy=ViewConfig(views=2))
    draw_views(computed, tmp_path / "v.npy", teacher=False)
    views = read_views(tmp_path / "v.npy", computed)
    assert [p.name for p in tmp_path.iterdir()] == ["v.npy"]
    assert np.array_equal(views.pixels[1], computed.pixels[1, :])
    assert views.teacher_pixels is computed.teacher_pixels


def test_views_drawn_again_in_one_place_are_those_of_the_last_images(tmp_path):
    drawn(split_of(teacher_side=24), tmp_path / "v.npy", views=2)
    views = drawn(split_of(), tmp_path / "v.npy", views=3)
    assert views.teacher_pixels is views.pixels and len(views.pixels) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["v.npy"]


def test_views_that_are_not_stored_are_computed_and_harmed_ones_named(tmp_path):
    computed = computed_views(split_of(), seed=0, policy=ViewConfig(views=2))
    assert read_views(tmp_path / "v.npy", computed) is computed
    (tmp_path / "v.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"v\.npy must be a readable \.npy file of numbers"):
        read_views(tmp_path / "v.npy", computed)


def test_an_interrupted_drawing_leaves_no_file(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        views = computed_views(split_of(), seed=0, policy=ViewConfig(views=3))
        draw_views(views, tmp_path / "v.npy", progress=interrupt)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "field, value, rule",
    [
        ("flip", 1, "of type bool"),
        ("views", 0, "at least 1"),
        ("views", 2.0, "of type int"),
        ("shift", 0.6, "between 0 and 0.5"),
        ("rotate", 46.0, "between 0 and 45"),
        ("zoom", -0.1, "between 0 and 0.5"),
        ("brightness", float("nan"), "between 0 and 0.9"),
        ("contrast", 1.0, "between 0 and 0.9"),
    ],
)
def test_a_policy_out_of_bounds(field, value, rule):
    with pytest.raises(UserError, match=rf"^--{field} must be {rule}\. Got {value}\.$"):
        ViewConfig(**{field: value})


def test_views_of_real_images_stay_near_them(shared_data, tmp_path):
    train = load(shared_data / "chest_ct_32", tmp_path).train
    views = drawn(train, tmp_path / "v.npy", views=2).pixels
    assert np.abs(views[1].mean(axis=(1, 2, 3)) - train.pixels.mean(axis=(1, 2, 3))).mean() < 20

"""Corrupted images: each kind does what its name says, by MedMNIST-C's strengths, and the same in any order."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import correlate, gaussian_filter

from ogkd.core import UserError
from ogkd.data import catalogue
from ogkd.data.corruptions import GROUPS, KINDS, LEVELS, RECIPES, corrupted, recipe_for
from ogkd.phantom.dataset import draw_class

BY_MODALITY = {recipe.modality: recipe for recipe in RECIPES}
EVERY = [(recipe, kind) for recipe in RECIPES for kind in recipe.kinds]


@pytest.fixture(scope="module")
def grey() -> Image.Image:
    (image, _), *_ = draw_class("phantom", 0, seed=1, count=1)
    return Image.fromarray(image).convert("RGB").resize((112, 96))


@pytest.fixture(scope="module")
def coloured(grey) -> Image.Image:
    shades = np.asarray(grey, np.float64) * [0.9, 0.6, 0.7] + [20, 5, 40]
    return Image.fromarray(shades.astype(np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float64)


@pytest.mark.parametrize(("recipe", "kind"), EVERY, ids=[f"{recipe.modality} {kind}" for recipe, kind in EVERY])
def test_every_kind_changes_an_image_the_same_in_any_order_and_leaves_grey_grey(recipe, kind, grey, coloured):
    assert len(recipe.kinds[kind]) == len(LEVELS)
    names = [f"{number}.png" for number in range(3)]
    forward = [corrupted(coloured, name, kind, level, recipe) for level in LEVELS for name in names]
    backward = [corrupted(coloured, name, kind, level, recipe) for level in LEVELS[::-1] for name in names[::-1]][::-1]
    assert all((pixels(one) == pixels(other)).all() for one, other in zip(forward, backward, strict=True))
    assert all(one.size == coloured.size and one.mode == "RGB" for one in forward)
    assert all((pixels(one) != pixels(coloured)).any() for one in forward[-len(names) :])
    of_grey = pixels(corrupted(grey, "a.png", kind, 5, recipe))
    assert (of_grey == of_grey[:, :, :1]).all()


@pytest.mark.parametrize("kind", ["gaussian_noise", "speckle_noise", "impulse_noise", "shot_noise", "motion_blur"])
def test_random_numbers_depend_on_the_image_s_name_the_seed_and_the_level(kind, coloured):
    recipe = BY_MODALITY["dermatoscopy"]
    one = pixels(corrupted(coloured, "a.png", kind, 3, recipe))
    assert (one != pixels(corrupted(coloured, "b.png", kind, 3, recipe))).any()
    assert (one != pixels(corrupted(coloured, "a.png", kind, 3, recipe, seed=1))).any()


def test_noise_has_the_strength_of_its_level():
    recipe, flat = BY_MODALITY["dermatoscopy"], Image.new("RGB", (200, 200), (127, 127, 128))
    for level, deviation in zip(LEVELS[:3], recipe.kinds["gaussian_noise"], strict=False):
        noise = pixels(corrupted(flat, "a", "gaussian_noise", level, recipe)) - pixels(flat)
        assert noise.std() / 255 == pytest.approx(deviation, rel=0.02)
        speckle = pixels(corrupted(flat, "a", "speckle_noise", level, recipe)) - pixels(flat)
        assert speckle.std() / 127 == pytest.approx(recipe.kinds["speckle_noise"][level - 1], rel=0.02)
        shot = pixels(corrupted(flat, "a", "shot_noise", level, recipe)) / 255
        assert shot.var() == pytest.approx(0.5 / recipe.kinds["shot_noise"][level - 1], rel=0.05)
        spots = pixels(corrupted(flat, "a", "impulse_noise", level, recipe))
        changed = spots != pixels(flat)
        assert changed.mean() == pytest.approx(recipe.kinds["impulse_noise"][level - 1], rel=0.1)
        assert set(np.unique(spots[changed])) == {0, 255}


def test_blurs_are_those_of_a_plain_convolution(coloured):
    derma, xray = BY_MODALITY["dermatoscopy"], BY_MODALITY["X-ray"]
    across = np.arange(-8, 9)
    disk = (across[:, None] ** 2 + across**2 <= 36).astype(float)  # level 3: radius 6, edge smoothed by 0.3
    disk = gaussian_filter(disk / disk.sum(), 0.3, radius=1, mode="mirror")
    expected = correlate(pixels(coloured), disk[:, :, None], mode="mirror")
    np.testing.assert_allclose(pixels(corrupted(coloured, "a", "defocus_blur", 3, derma)), np.floor(expected), atol=1)
    from torchvision.transforms.functional import gaussian_blur

    np.testing.assert_allclose(
        pixels(corrupted(coloured, "a", "gaussian_blur", 4, xray)), pixels(gaussian_blur(coloured, 9)), atol=1
    )
    dot = np.zeros((121, 121, 3), np.uint8)
    dot[60, 60] = 255
    trail = pixels(corrupted(Image.fromarray(dot), "a", "motion_blur", 1, derma))[:, :, 0]
    assert 255 - 21 <= trail.sum() <= 255  # 21 steps, each rounded down
    down, right = np.nonzero(trail)
    assert np.ptp(right) > 8 and np.ptp(down) <= np.ptp(right) + 1  # within 45 degrees of the horizontal
    assert trail[60, 60] == trail.max() and (right.min() == 60 or right.max() == 60)  # on one side


def test_saturation_is_added_as_in_the_hsv_model(coloured):
    from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

    hsv = rgb_to_hsv(pixels(coloured) / 255)
    hsv[:, :, 1] = np.clip(hsv[:, :, 1] + 0.25, 0, 1)
    of = pixels(corrupted(coloured, "a", "saturate", 5, BY_MODALITY["histopathology"]))
    np.testing.assert_allclose(of, 255 * hsv_to_rgb(hsv), atol=1.01)


def test_the_recipe_follows_the_modality_and_an_unknown_one_is_said():
    for facts in catalogue.load().everything():
        assert recipe_for(facts.modality).kinds
    spelled = {"chest radiographs": "X-ray", "dermoscopy": "dermatoscopy", "OCT": "optical coherence tomography",
               "brain MR": "MRI", "Colonoscopy": "endoscopy", "retinal fundus": "fundus photography", "ct": "CT",
               "synthetic ultrasound": "ultrasound", "x ray": "X-ray", "histology": "histopathology"}  # fmt: skip
    assert {word: recipe_for(word).modality for word in spelled} == spelled
    for unknown in ("", "doctor", "photographs", "spectroscopy"):
        with pytest.raises(UserError, match=r"--modality.*dermatoscopy.*MRI"):
            recipe_for(unknown)
    with pytest.raises(UserError, match="bubble"):
        corrupted(Image.new("RGB", (9, 9)), "a", "gaussian_noise", 1, BY_MODALITY["histopathology"])
    assert sorted(KINDS) == sorted({kind for _, kind in EVERY}) and set(GROUPS) >= {"noise", "blur"}

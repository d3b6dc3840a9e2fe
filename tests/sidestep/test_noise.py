"""Seeds mean what they mean on CUDA."""

from __future__ import annotations

import numpy as np
import pytest

from sidestep.noise import latent_noise, philox_4x32, standard_normal


def test_seed_zero_begins_as_on_cuda() -> None:
    np.testing.assert_allclose(
        standard_normal(0, 4), [-0.92466, -0.42534, -2.64385, 0.14518], atol=1e-5
    )


def test_philox_equals_the_published_vectors() -> None:
    """Random123's known answers of philox4x32-10 for counter 0, key 0, its first two words."""
    x, y = philox_4x32(np.zeros(1, dtype=np.uint64), (0, 0))
    assert (int(x[0]), int(y[0])) == (0x6627E8D5, 0xE169C58D)


def test_the_high_half_of_a_seed_counts() -> None:
    assert not np.array_equal(standard_normal(7, 16), standard_normal(7 + 2**32, 16))
    assert np.isfinite(standard_normal(2**64 - 1, 16)).all()


def test_the_noise_is_standard_normal() -> None:
    noise = standard_normal(3, 100_000)
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)


def test_a_row_depends_on_its_seed_alone() -> None:
    batch = latent_noise([5, 6, 7], (4, 8, 8))
    assert batch.shape == (3, 4, 8, 8)
    np.testing.assert_array_equal(batch[1], latent_noise([6], (4, 8, 8))[0])

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


def test_a_long_seed_is_the_key_as_cuda_splits_it() -> None:
    """By a second writing of the generator: the low word first, one normal for each block."""

    def philox(c: tuple[int, ...], k: tuple[int, int]) -> tuple[int, ...]:
        low = 0xFFFFFFFF
        for _ in range(10):
            p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = ((q >> 32) ^ c[1] ^ k[0], q & low, (p >> 32) ^ c[3] ^ k[1], p & low)
            k = ((k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low)
        return c

    counter = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)  # Random123's, the digits of pi
    known = (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)
    assert philox(counter, (0xA4093822, 0x299F31D0)) == known
    words = [philox((0, 0, i, 0), (0x89ABCDEF, 0x01234567)) for i in range(5)]
    u, v = ((np.array([block[place] for block in words]) + 0.5) / 2**32 for place in (0, 1))
    wanted = np.sqrt(-2 * np.log(u)) * np.sin(2 * np.pi * v)
    np.testing.assert_allclose(standard_normal(0x0123456789ABCDEF, 5), wanted, atol=1e-5)


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

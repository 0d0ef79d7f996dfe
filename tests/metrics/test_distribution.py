"""Distances between sets of pictures, against formulas and against the libraries that others use."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from attngan.metrics import distribution, intervals
from attngan.metrics.distribution import Rows


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(count, size, seed, *, mean=0.0, deviation=1.0):
    return torch.randn(count, size, generator=rng(seed)) * deviation + mean


def exactly(rows, mean, deviations):
    """Move rows so that their mean and covariance are exactly these."""
    centred = rows.double() - rows.double().mean(dim=0)
    root = torch.linalg.cholesky(torch.cov(centred.T))
    white = torch.linalg.solve_triangular(root, centred.T, upper=False).T
    return white * deviations + mean


def test_the_fid_of_two_known_gaussians_is_the_formula():
    mean, other = torch.tensor([0.0, 0, 0]).double(), torch.tensor([3.0, -4, 0]).double()
    deviations, others = torch.tensor([1.0, 2, 3]).double(), torch.tensor([2.0, 2, 1]).double()
    real = Rows(exactly(drawn(500, 3, 1), mean, deviations))
    generated = Rows(exactly(drawn(400, 3, 2), other, others))
    # |mean difference|^2 + sum of (s - s')^2: 25 + 1 + 0 + 4
    assert distribution.fid(real, generated) == pytest.approx(30.0, abs=1e-9)


def test_the_fid_is_that_of_scipys_matrix_root_and_of_torch_fidelity():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    mixing = torch.randn(12, 12, generator=rng(5)).double()
    real, generated = drawn(1500, 12, 1).double() @ mixing, drawn(1300, 12, 2, mean=0.3).double()
    value = distribution.fid(Rows(real), Rows(generated))
    first, second = (np.cov(rows.numpy(), rowvar=False) for rows in (real, generated))
    root = scipy.linalg.sqrtm(first @ second).real
    shift = (real.mean(dim=0) - generated.mean(dim=0)).square().sum().item()
    assert value == pytest.approx(shift + np.trace(first + second - 2 * root), rel=1e-8)
    theirs = fid_statistics_to_metric(*map(fid_features_to_statistics, (real, generated)), False)
    assert value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-8)


def test_the_kid_of_whole_sets_is_torch_fidelitys_and_the_sum_written_out():
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, generated = drawn(40, 6, 1).double(), drawn(40, 6, 2, mean=0.5).double()
    value = distribution.kid(Rows(real), Rows(generated), rng(), num_subsets=1, subset_size=40)

    def mean_kernel(one, other, *, same):
        pairs = [(i, j) for i in range(40) for j in range(40) if not (same and i == j)]
        return sum((float(one[i] @ other[j]) / 6 + 1) ** 3 for i, j in pairs) / len(pairs)

    written_out = mean_kernel(real, real, same=True) + mean_kernel(generated, generated, same=True)
    written_out -= 2 * mean_kernel(real, generated, same=False)
    assert value == pytest.approx(written_out, rel=1e-9)
    theirs = kid_features_to_metric(generated, real, kid_subsets=1, kid_subset_size=40, verbose=False)
    assert value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)


def test_the_kid_of_one_distribution_is_nought_where_the_fid_is_not():
    kids, fids = [], []
    for seed in range(20):
        real, generated = Rows(drawn(60, 16, 2 * seed)), Rows(drawn(60, 16, 2 * seed + 1))
        kids.append(distribution.kid(real, generated, rng(), num_subsets=1, subset_size=60))
        fids.append(distribution.fid(real, generated))
    error = np.std(kids) / math.sqrt(len(kids))
    assert abs(np.mean(kids)) < 3 * error
    assert np.mean(fids) > 1


def test_the_inception_score_is_torch_fidelitys_and_knows_its_ends():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = drawn(500, 7, 3, deviation=2.0)
    order = torch.as_tensor(np.random.RandomState(2020).permutation(500))  # as torch-fidelity shuffles
    theirs = isc_features_to_metric(logits, splits=distribution.NUM_SPLITS, rng_seed=2020)
    assert distribution.inception_score(Rows(logits, order)) == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    sure = 100 * torch.eye(5).repeat(100, 1)
    assert distribution.inception_score(Rows(sure)) == pytest.approx(5.0)
    assert distribution.inception_score(Rows(torch.zeros(50, 5))) == pytest.approx(1.0)


def test_precision_and_recall_are_those_of_every_pair():
    real, generated = drawn(60, 3, 1), drawn(50, 3, 2, mean=1.0)

    def share_within(rows, others):
        count = 0
        for row in rows:
            for index, other in enumerate(others):
                neighbours = sorted(float((other - each).norm()) for k, each in enumerate(others) if k != index)
                if float((row - other).norm()) <= neighbours[distribution.NEIGHBOURHOOD - 1]:
                    count += 1
                    break
        return count / len(rows)

    precision, recall = distribution.precision_recall(Rows(real), Rows(generated), rng())
    assert precision == pytest.approx(share_within(generated, real))
    assert recall == pytest.approx(share_within(real, generated))
    assert 0 < precision < 1 and 0 < recall < 1


def test_rows_are_picked_from_a_mapped_file_without_reading_it_whole(tmp_path):
    values = drawn(2500, 4, 1)
    array = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(2500, 4))
    array[:] = values.numpy()
    rows = Rows(torch.from_numpy(array))
    assert [len(chunk) for chunk in rows.chunks()] == [1000, 1000, 500]
    assert torch.equal(torch.cat(list(rows.chunks())), values)
    some = rows.sample(700, rng()).sample(9, rng(1))
    assert len(some) == 9 and len(some[:].unique(dim=0)) == 9
    assert all((values == row).all(dim=1).any() for row in some[:])
    assert distribution.fid(rows, rows) == pytest.approx(0, abs=1e-9)


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says():
    truth, hits = 0.3, 0
    for seed in range(200):
        low, high = intervals.of_mean(torch.rand(200, generator=rng(seed)) < truth, rng(seed))
        hits += low <= truth <= high
    assert 0.9 <= hits / 200 <= 0.99


def test_the_interval_of_a_distance_spreads_as_samples_do():
    def distance(real, generated):
        return {"kid": distribution.kid(real, generated, rng(), num_subsets=1, subset_size=10**6)}

    values, reaches = [], []
    for seed in range(30):
        sets = Rows(drawn(200, 3, 1000 + seed)), Rows(drawn(200, 3, 2000 + seed, mean=0.5))
        value = distance(*sets)
        low, high = intervals.of_sets(distance, value, sets, rng(seed), num_resamples=20)["kid"]
        assert low < value["kid"] < high
        values.append(value["kid"])
        reaches.append((high - low) / 2)
    assert np.mean(reaches) == pytest.approx(1.96 * np.std(values, ddof=1), rel=0.35)

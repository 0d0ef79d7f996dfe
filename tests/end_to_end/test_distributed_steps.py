"""Single steps of two processes on a CPU are those of one with the whole batch, to the rounding of float64."""

import socket

import pytest
import torch
import torch.multiprocessing
import two_processes

pytestmark = pytest.mark.slow
TRAININGS = [
    *("damsm", "generator", "generator with spectral norm"),
    "generator with a projected discriminator",
]
EXACT = {"rtol": 1e-8, "atol": 1e-11}  # float64: sums in another order


@pytest.fixture(scope="module")
def together(dataset, damsm, smoke, efficientnet_file, tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    given = (port, folder, dataset, damsm, smoke, efficientnet_file)
    torch.multiprocessing.spawn(two_processes.work, given, nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(dataset, damsm, smoke, efficientnet_file):
    return two_processes.steps(dataset, damsm, smoke, efficientnet_file)


def test_a_part_is_a_contiguous_share_in_the_order_of_ranks(together):
    assert [each["primitives"]["part"] for each in together] == [slice(0, 3), slice(3, 6)]


def test_gathered_features_are_the_batch_and_their_gradients_sum(together):
    for rank, each in enumerate(together):
        assert each["primitives"]["gathered"].flatten().tolist() == [1, 3, 2, 4]
        assert each["primitives"]["gather gradient"].flatten().tolist() == [[2, 20], [200, 2000]][rank]


def test_gradients_become_their_mean_and_absent_ones_stay_absent(together):
    for each in together:
        vector, absent, matrix = each["primitives"]["averaged"]
        assert vector.tolist() == [1.5, 1.5] and absent is None and matrix.tolist() == [[5, 5], [5, 5]]


def test_noise_is_what_one_process_draws_for_the_batch_and_so_is_what_follows(together):
    torch.manual_seed(5)
    whole, following = torch.randn(4, 3, 4, 4), torch.randn(3)
    assert torch.equal(torch.cat([each["primitives"]["noise"] for each in together]), whole)
    assert all(torch.equal(each["primitives"]["next"], following) for each in together)


def test_all_agree_on_what_is_true_for_any_and_on_what_the_first_computes(together):
    for each in together:
        assert each["primitives"]["agreed"] == [True, True, False]
        assert each["primitives"]["from first"] == {"rank": 0}


def test_a_batch_norm_over_unequal_parts_is_that_of_the_whole_batch(together):
    one = two_processes.batch_norm(slice(0, 5))
    parts = [each["primitives"]["batch norm"] for each in together]
    for name in ("normed", "gradient", "used"):
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), one[name], **EXACT)
    for part in parts:
        for name in ("0.running_mean", "0.running_var", "0.num_batches_tracked"):
            torch.testing.assert_close(part[name], one[name], **EXACT)
        torch.testing.assert_close(2 * part["gradient of 0.weight"], one["gradient of 0.weight"], **EXACT)


@pytest.mark.parametrize("training", TRAININGS)
def test_steps_of_two_processes_are_those_of_one_with_the_whole_batch(training, together, alone):
    """Losses, gradients, weights after Adam, batch-norm statistics, and the averaged generator."""
    torch.testing.assert_close(together[0][training], alone[training], **EXACT)
    assert any("running_var" in name for name in alone[training])
    assert any("gradient" in name for name in alone[training])


@pytest.mark.parametrize("training", TRAININGS)
def test_both_processes_hold_the_same_weights_bit_for_bit(training, together):
    first, second = (each[training] for each in together)
    own = [name for name in first if not torch.equal(first[name], second[name])]
    assert own == []

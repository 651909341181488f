import multiprocessing

import pytest
import torch

from recsys.kernels.threads import run_shares, shares


def work(_number, part):
    if part[1] > 5:
        raise ValueError("no part may end beyond 5")


def work_in_two_threads(*_):
    torch.set_num_threads(2)
    run_shares(work, shares(4))


def test_a_forked_process_has_threads_of_its_own():
    before = torch.get_num_threads()
    work_in_two_threads()
    torch.set_num_threads(before)
    child = multiprocessing.get_context("fork").Process(target=work_in_two_threads)
    child.start()
    child.join(60)
    alive = child.is_alive()
    child.kill()
    assert not alive and child.exitcode == 0


def test_an_error_of_a_thread_is_raised():
    with pytest.raises(ValueError, match="beyond 5"):
        run_shares(work, [(0, 3), (3, 6)])


def test_shares_cover_all_parts_once(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert shares(10) == [(0, 2), (2, 5), (5, 7), (7, 10)]
    assert shares(2) == [(0, 1), (1, 2)]
    assert shares(0) == [(0, 0)]

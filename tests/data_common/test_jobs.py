"""Chains of calls of our own stages."""

import pytest

from data_common.calls.jobs import Job, call_stage, run_jobs


def job(name, needs=(), done=False, do=lambda: None):
    return Job(name, needs, do, lambda: done)


def test_jobs_wait_for_what_they_need_and_finished_ones_are_not_repeated():
    order = []
    jobs = [
        job("last", ["second"], do=lambda: order.append("last")),
        job("second", ["first", "old"], do=lambda: order.append("second")),
        job("first", do=lambda: order.append("first")),
        job("old", done=True, do=lambda: order.append("old")),
    ]
    assert run_jobs(jobs, 2, 1e9) == []
    assert order == ["first", "second", "last"]


def test_a_failure_stops_what_needs_it_and_nothing_else():
    done = []

    def fail():
        raise RuntimeError("broken")

    jobs = [
        job("bad", do=fail),
        job("after", ["bad"], do=lambda: done.append("after")),
        job("other", do=lambda: done.append(1)),
    ]
    assert run_jobs(jobs, 1, 1e9) == ["bad"]
    assert done == [1]


def test_nothing_starts_after_the_budget():
    assert run_jobs([job("one", do=lambda: pytest.fail("started"))], 1, -1) == []


def test_a_stage_is_called_and_its_words_and_cost_are_kept(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"score": 1}\n{"score": 2}\n')
    words = [str(tmp_path / "in.jsonl"), str(tmp_path / "out file.jsonl"), "sorting", "ascending=false"]
    cost = call_stage("data_ordering", words, tmp_path / "logs/one.log")
    assert (tmp_path / "out file.jsonl").read_text() == '{"score": 2}\n{"score": 1}\n'
    assert cost["wall"] > 0 and cost["peak_mib"] > 10
    assert "out file.jsonl' sorting ascending=false" in (tmp_path / "logs/one.log").read_text()


def test_a_stage_that_fails_names_its_log(tmp_path):
    with pytest.raises(RuntimeError, match=r"one\.log"):
        call_stage("data_ordering", ["none.jsonl", str(tmp_path / "out.jsonl"), "sorting"], tmp_path / "one.log")
    assert "none.jsonl" in (tmp_path / "one.log").read_text()

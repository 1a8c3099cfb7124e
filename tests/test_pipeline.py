"""The threaded pipeline: order, back-pressure, and above all how it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator

import pytest

from vidstyle.errors import BadOption
from vidstyle.pipeline import BackOff, Pipeline, overlapped

N = 200


def numbers(fail_at: int | None = None) -> Generator[int, None, None]:
    for i in range(N):
        if i == fail_at:
            raise OSError("corrupt packet")
        yield i


def step_failing_at(at: int | None) -> Callable[[int], Callable[[], int]]:
    def submit(i: int) -> Callable[[], int]:
        def wait() -> int:
            if i == at:
                raise ValueError("step")
            return i * 2

        return wait

    return submit


def run_within(
    seconds: float,
    source: Generator[int, None, None],
    submit: Callable[[int], Callable[[], int]],
    sink: Callable[[int], None],
    **options: int,
) -> None:
    """Run a pipeline on a thread of its own, so that a hang fails the test instead of blocking it."""
    outcome: list[BaseException | None] = []

    def go() -> None:
        try:
            Pipeline[int, int](**options).run(source, submit, sink)
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    thread.join(seconds)
    assert outcome, "the pipeline hangs"
    if outcome[0] is not None:
        raise outcome[0]


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("in_flight", [1, 3, 2 * N])
def test_every_item_arrives_in_order(depth: int, in_flight: int) -> None:
    out: list[int] = []
    run_within(5, numbers(), step_failing_at(None), out.append, depth=depth, in_flight=in_flight)
    assert out == [2 * i for i in range(N)]


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("at", [0, 50, N - 1])
@pytest.mark.parametrize("where", ["decode", "infer", "encode"])
def test_first_error_ends_everything(where: str, at: int, in_flight: int) -> None:
    def sink(i: int) -> None:
        if where == "encode" and i == 2 * at:
            raise RuntimeError("disk full")

    source = numbers(at if where == "decode" else None)
    submit = step_failing_at(at if where == "infer" else None)
    error = {"decode": OSError, "infer": ValueError, "encode": RuntimeError}[where]
    with pytest.raises(error):
        run_within(5, source, submit, sink, depth=2, in_flight=in_flight)


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_as_many_items_as_asked_are_in_flight(in_flight: int) -> None:
    under_way, peak = 0, 0

    def submit(i: int) -> Callable[[], int]:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)

        def wait() -> int:
            nonlocal under_way
            under_way -= 1
            return i

        return wait

    run_within(5, numbers(), submit, lambda i: None, in_flight=in_flight)
    assert peak == in_flight


@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_results_come_in_order_with_as_many_under_way_as_asked(in_flight: int) -> None:
    started: list[int] = []

    def submit(i: int) -> Callable[[], int]:
        started.append(i)
        return lambda: i

    for i, result in enumerate(overlapped((submit(i) for i in range(9)), in_flight)):
        assert result == i
        assert len(started) == min(9, i + in_flight)
    assert i == 8
    assert not list(overlapped([], in_flight))


def test_a_slow_sink_holds_the_source_back() -> None:
    made, seen, peak = 0, 0, 0

    def source() -> Generator[int, None, None]:
        nonlocal made
        for i in range(60):
            made += 1
            yield i

    def sink(i: int) -> None:
        nonlocal seen, peak
        time.sleep(0.002)
        seen += 1
        peak = max(peak, made - seen)

    run_within(5, source(), step_failing_at(None), sink, depth=4, in_flight=2)
    assert peak <= 4 + 4 + 2 + 3  # both queues, the step, and one item in each pair of hands


@pytest.mark.parametrize("where", ["infer", "encode"])
def test_source_is_closed_on_early_stop(where: str) -> None:
    closed = threading.Event()

    def source() -> Generator[int, None, None]:
        try:
            yield from range(N)
        finally:
            closed.set()

    def sink(i: int) -> None:
        if where == "encode":
            raise ValueError("sink")

    with pytest.raises(ValueError):
        run_within(5, source(), step_failing_at(3 if where == "infer" else None), sink, depth=2)
    assert closed.is_set()


def test_an_empty_source_ends_at_once() -> None:
    out: list[int] = []
    run_within(5, (i for i in range(0)), step_failing_at(None), out.append)
    assert out == []


def test_seconds_count_work_and_not_waiting() -> None:
    pipeline = Pipeline[int, int](depth=2)

    def slow() -> Generator[int, None, None]:
        for i in range(10):
            time.sleep(0.01)
            yield i

    pipeline.run(slow(), step_failing_at(None), lambda i: None)
    assert pipeline.seconds.decode >= 0.1
    assert pipeline.seconds.infer < 0.05
    assert pipeline.seconds.encode < 0.05


def test_ctrl_c_ends_everything() -> None:
    def endless() -> Generator[int, None, None]:
        i = 0
        while True:
            yield i
            i += 1

    def submit(i: int) -> Callable[[], int]:
        time.sleep(0.005)
        return lambda: i

    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        Pipeline[int, int](depth=2).run(endless(), submit, lambda i: None)
    timer.join()


def test_ctrl_c_while_the_sink_drains() -> None:
    timer = threading.Timer(0.15, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Pipeline[int, int](depth=8).run(
            (i for i in range(8)), step_failing_at(None), lambda i: time.sleep(0.5)
        )  # 4 s to drain
    assert time.monotonic() - began < 2
    timer.join()


@pytest.mark.parametrize("options", [{"depth": 0}, {"in_flight": 0}])
def test_an_empty_pipeline_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(BadOption, match="at least 1 frame"):
        Pipeline[int, int](**options)


def test_pauses_grow_up_to_the_longest_until_an_attempt_succeeds() -> None:
    back_off, stop, asked = BackOff(0.001, 0.003), threading.Event(), []

    def attempt() -> int:
        asked.append(back_off.seconds)
        if len(asked) < 3:
            raise OSError
        return 7

    assert back_off.retry(attempt, stop, OSError) == 7
    assert asked == [0.002, 0.003, 0.003]
    stop.set()
    assert back_off.retry(attempt, stop, OSError) is None
    back_off.reset()
    assert back_off.next() == 0.001

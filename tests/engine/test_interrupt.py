"""One signal asks, two signals end, and nothing of it outlives the block."""

import signal
import threading

import pytest

from weldlm.interrupt import StopRequest, Terminated, catch_signals, catch_sigterm


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_first_signal_is_a_request(number: signal.Signals) -> None:
    with catch_signals() as stop:
        before = bool(stop)
        signal.raise_signal(number)

    assert (before, stop.signal_number) == (False, number)


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
    ids=["SIGINT", "SIGTERM"],
)
def test_second_signal_ends_at_once(number: signal.Signals, error: type[BaseException]) -> None:
    with catch_signals():
        signal.raise_signal(signal.SIGINT)

        with pytest.raises(error):
            signal.raise_signal(number)


def test_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    with pytest.raises(RuntimeError, match="inside"), catch_signals():
        raise RuntimeError("inside")

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_another_thread_leaves_the_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with catch_signals() as stop:
            seen.extend([signal.getsignal(signal.SIGINT), stop])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [before, StopRequest()]


def test_sigterm_becomes_an_exception_inside_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(Terminated), catch_sigterm():
        signal.raise_signal(signal.SIGTERM)

    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_is_a_request_while_a_run_asks_for_it() -> None:
    with catch_sigterm(), catch_signals() as stop:
        signal.raise_signal(signal.SIGTERM)

    assert stop.signal_number == signal.SIGTERM

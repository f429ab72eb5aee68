"""A signal waits for work that can be saved, and for no other."""

import signal

import pytest

from jaxmed.runtime import interrupts


def run(work):
    with interrupts.defer_signals():
        work()


def test_work_that_is_postponed_ends_where_it_looks():
    def work():
        assert not interrupts.stop_requested()
        assert interrupts.request_stop(signal.SIGUSR1)
        # The batch system's next signal, or the same again, changes nothing.
        assert interrupts.request_stop(signal.SIGTERM)
        assert interrupts.request_stop(signal.SIGTERM)
        assert interrupts.stop_requested()
        interrupts.stop_if_requested()
        pytest.fail("it went on")

    with pytest.raises(interrupts.Interrupted) as raised:
        run(work)
    assert raised.value.number == signal.SIGUSR1
    assert isinstance(raised.value, KeyboardInterrupt)


def test_a_signal_that_was_not_looked_for_counts_at_the_end():
    with pytest.raises(interrupts.Interrupted):
        run(lambda: interrupts.request_stop(signal.SIGTERM))
    assert not interrupts.stop_requested()


def test_there_is_nothing_to_wait_for_outside_or_when_a_user_insists():
    answers = []

    def work():
        answers.extend(interrupts.request_stop(signal.SIGINT) for _ in range(2))

    assert not interrupts.request_stop(signal.SIGINT)
    with pytest.raises(interrupts.Interrupted):
        run(work)
    assert answers == [True, False]
    assert not interrupts.request_stop(signal.SIGTERM)


def test_an_error_is_not_hidden_by_a_signal():
    def work():
        interrupts.request_stop(signal.SIGTERM)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run(work)

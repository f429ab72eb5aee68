"""A signal waits for work that can be saved, and for no other."""

import signal

import pytest

from jaxmed.runtime import interrupts


def run(work):
    with interrupts.postponed():
        work()


def test_work_that_is_postponed_ends_where_it_looks():
    def work():
        assert not interrupts.is_asked()
        assert interrupts.ask(signal.SIGUSR1)
        # The batch system's next signal, or the same again, changes nothing.
        assert interrupts.ask(signal.SIGTERM)
        assert interrupts.ask(signal.SIGTERM)
        assert interrupts.is_asked()
        interrupts.stop()
        pytest.fail("it went on")

    with pytest.raises(interrupts.Interrupted) as raised:
        run(work)
    assert raised.value.number == signal.SIGUSR1
    assert isinstance(raised.value, KeyboardInterrupt)


def test_a_signal_that_was_not_looked_for_counts_at_the_end():
    with pytest.raises(interrupts.Interrupted):
        run(lambda: interrupts.ask(signal.SIGTERM))
    assert not interrupts.is_asked()


def test_there_is_nothing_to_wait_for_outside_or_when_a_user_insists():
    answers = []

    def work():
        answers.extend(interrupts.ask(signal.SIGINT) for _ in range(2))

    assert not interrupts.ask(signal.SIGINT)
    with pytest.raises(interrupts.Interrupted):
        run(work)
    assert answers == [True, False]
    assert not interrupts.ask(signal.SIGTERM)


def test_an_error_is_not_hidden_by_a_signal():
    def work():
        interrupts.ask(signal.SIGTERM)
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run(work)

"""The queue of runs, event by event, with a host that only writes down what it is asked."""

import pytest
from PySide6.QtCore import QObject, Signal
from window_parts import answered, refused, told

from engine.errors import UserError
from engine.events import Finished, Notice, Progress, Snapshot, Started, Stopped
from engine.request import ModelSpec, Request
from engine.runs.jobs.inspect import Inspect
from engine.runs.jobs.job import Reply, State
from gui.panes.runs import RunsPane, clock
from gui.state.runs import Runs

REQUEST = Request(analysis="weights", models=(ModelSpec(),))


class Ledger(QObject):
    """Stands where the ComputeHost stands; the tests speak for the compute process."""

    replied = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.jobs = []
        self.cancelled: list[int] = []

    @property
    def submitted(self) -> list[Request | str]:
        return [job.work for job in self.jobs]

    def ask(self, job):
        self.jobs.append(job)

    def cancel(self, job_id):
        self.cancelled.append(job_id)

    def tell(self, event):
        """The job that was asked last tells an event."""
        self.replied.emit(told(self.jobs[-1], event))

    def finish(self, *args):
        self.replied.emit(answered(self.jobs[-1], Finished(*args)))

    def stop(self, run, done, total):
        self.tell(Stopped(run, done, total))
        self.replied.emit(Reply(self.jobs[-1].id, State.STOPPED))


@pytest.fixture
def host(qapp):
    return Ledger()


@pytest.fixture
def runs(host):
    return Runs(host)


def test_a_run_from_queue_to_done(host, runs, tmp_path):
    ended = []
    runs.ended.connect(ended.append)
    key = runs.add(tmp_path, REQUEST).key
    assert host.submitted == [REQUEST]
    assert runs.row(key).state == "running"
    host.tell(Started("r1", "weights", "Weights · builtin", 0, 6))
    host.tell(Progress("r1", 2, 6, "Layer 2", 100.0))
    row = runs.find("r1")
    assert (row.key, row.done, row.total, row.remaining, row.activity) == (key, 2, 6, 100.0, "Layer 2")
    host.finish("r1", 3.0)
    assert runs.row(key).state == "done"
    assert runs.row(key).done == 6
    assert not runs.busy
    assert [row.state for row in ended] == ["done"]
    assert "Finished in 3.0 s" in runs.row(key).log[-1]


def test_a_run_that_lacks_a_model_says_which_and_can_be_resumed(host, runs, tmp_path):
    key = runs.add(tmp_path, REQUEST).key
    host.tell(Started("r1", "weights", "", 0, 6))
    host.tell(Notice("r1", "step32 failed and is passed over: NaN.", "Traceback"))
    host.tell(Progress("r1", 3, 6, "Putting the result together", 0.0))
    host.finish("r1", 3.0, ("step32 failed: NaN.",))
    row = runs.row(key)
    assert (row.state, row.done, row.message, row.resumable) == ("done", 3, "step32 failed: NaN.", True)
    assert "Traceback" in row.log[-3]
    runs.resume(row)
    assert host.submitted[-1] == "r1"
    assert runs.row(key).missing == ()


def test_runs_wait_for_one_another(host, runs, tmp_path):
    other = REQUEST.model_copy(update={"seed": 1})
    first, second = runs.add(tmp_path, REQUEST).key, runs.add(tmp_path, other).key
    assert [runs.row(k).state for k in (first, second)] == ["running", "queued"]
    host.tell(Started("r1", "weights", "", 0, 6))
    host.finish("r1", 1.0)
    assert [runs.row(k).state for k in (first, second)] == ["done", "running"]
    assert host.submitted == [REQUEST, other]


def test_cancel_waits_for_the_engine_and_the_rest_can_be_resumed(host, runs, tmp_path):
    key = runs.add(tmp_path, REQUEST).key
    host.tell(Started("r1", "weights", "", 0, 6))
    runs.cancel(runs.row(key))
    assert (runs.row(key).state, host.cancelled) == ("cancelling", [host.jobs[0].id])
    runs.cancel(runs.row(key))
    assert len(host.cancelled) == 1
    host.stop("r1", 3, 6)
    assert (runs.row(key).state, runs.row(key).done) == ("stopped", 3)
    runs.resume(runs.row(key))
    assert host.submitted[-1] == "r1"
    assert runs.row(key).state == "running"


def test_a_run_that_is_killed_or_never_began_is_stopped_with_what_is_known(host, runs, tmp_path):
    killed = runs.add(tmp_path, REQUEST).key
    host.tell(Started("r1", "weights", "", 0, 6))
    host.tell(Progress("r1", 2, 6, "Layer 2", None))
    host.replied.emit(Reply(host.jobs[-1].id, State.STOPPED))
    assert runs.row(killed).message == "2 of 6 units are kept; resume to compute the rest."
    waiting = runs.add(tmp_path, REQUEST).key
    host.replied.emit(Reply(host.jobs[-1].id, State.STOPPED))
    row = runs.row(waiting)
    assert (row.state, row.resumable) == ("stopped", True)
    assert "before it started" in row.message


def test_a_run_whose_process_died_has_failed_and_keeps_what_it_had(host, runs, tmp_path):
    key = runs.add(tmp_path, REQUEST).key
    host.tell(Started("r1", "weights", "", 1, 6))
    host.replied.emit(Reply(host.jobs[-1].id, State.LOST, error=UserError("The system killed it.")))
    row = runs.row(key)
    assert (row.state, row.message, row.done, row.resumable) == ("failed", "The system killed it.", 1, True)
    runs.resume(row)
    assert host.submitted[-1] == "r1"


def test_what_is_replied_to_other_jobs_is_not_for_the_runs(host, runs, tmp_path):
    key = runs.add(tmp_path, REQUEST).key
    host.replied.emit(answered(Inspect(ModelSpec()), None))
    assert runs.row(key).state == "running"


def test_a_queued_run_is_cancelled_at_once(host, runs, tmp_path):
    runs.add(tmp_path, REQUEST)
    waiting = runs.add(tmp_path, REQUEST)
    runs.cancel(waiting)
    assert runs.row(waiting.key) is None
    assert host.cancelled == []


def test_a_failure_keeps_sentence_and_details_and_lets_the_next_run_go(host, runs, tmp_path):
    first, second = runs.add(tmp_path, REQUEST), runs.add(tmp_path, REQUEST)
    host.replied.emit(refused(host.jobs[-1], "There is no such model.", "Traceback"))
    row = runs.row(first.key)
    assert (row.state, row.message, row.detail) == ("failed", "There is no such model.", "Traceback")
    assert runs.row(second.key).state == "running"
    host.finish("r2", 1.0)
    runs.resume(row)
    assert host.submitted[-1] == REQUEST  # it never had a plan, so it starts anew


def test_snapshots_and_notices_are_passed_on(host, runs, tmp_path):
    seen = []
    runs.snapshot.connect(seen.append)
    runs.add(tmp_path, REQUEST)
    host.tell(Started("r1", "weights", "", 0, 6))
    snapshot = Snapshot("r1", None, False)
    host.tell(snapshot)
    host.tell(Notice("r1", "The raw product is shown."))
    assert seen == [snapshot]
    assert runs.find("r1").message == "The raw product is shown."


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0, "00:00"), (99.6, "01:40"), (7390, "2:03:10")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_the_list_shows_newest_first_and_offers_what_is_possible(qtbot, host, runs, tmp_path):
    pane = RunsPane(runs)
    qtbot.addWidget(pane)
    first = runs.add(tmp_path, REQUEST)
    runs.add(tmp_path, REQUEST.model_copy(update={"models": (ModelSpec(source="gpt2"),)}))
    assert [pane.tree.topLevelItem(i).text(0) for i in (0, 1)] == ["weights · gpt2", "weights · builtin"]
    pane.choose(first)
    assert pane.cancel_button.isEnabled()
    assert not pane.resume_button.isEnabled()
    host.stop("r1", 3, 6)
    assert pane.current.key == first.key
    assert pane.resume_button.isEnabled()
    with qtbot.waitSignal(pane.resume) as asked:
        pane.resume_button.click()
    assert asked.args[0].state == "stopped"

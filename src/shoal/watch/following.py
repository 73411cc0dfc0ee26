"""Watching live traffic: windows of the prediction log, each compared with the profile the model was trained on."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from shoal.base import ConfigError, InputError, Json
from shoal.data import Profile
from shoal.store import Alert, Store
from shoal.watch.alerts import Action, AlertPolicy, AlertState, decide
from shoal.watch.comparison import FALSE_ALARM, DriftReport, compare
from shoal.watch.traffic import Traffic

ALERT_KIND = "drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window of traffic and what was made of it.

    Attributes:
        index: 0 for the watcher's first window.
        rows: the log's rows it spans; where only one version is watched, rows of others lie between them.
        versions: how many of its rows each version answered.
        profile: of the inputs and scores; merge windows for longer spans.
        report: the comparison with the reference.
        actions: "raise" where an alert begins with this window, "clear" where it ends.
        is_raised: whether an alert stands after this window.
        alert: what the store recorded or closed for this window's action; None without a store or an action.
        not_logged: inputs and outputs of the model that its log drops, so that nothing is known of them.
        sample: the share of the traffic that is logged; the window's rows stand for `num_rows / sample` rows.
    """

    index: int
    rows: range
    versions: Mapping[str, int]
    profile: Profile
    report: DriftReport
    actions: tuple[Action, ...]
    is_raised: bool
    alert: Alert | None
    not_logged: tuple[str, ...] = ()
    sample: float = 1.0


class Watcher:
    """Follows the log of one model. It only reads the log, so it may run anywhere, late, or several times.

    With a store, a raised alert is recorded there and closed when it clears; one that an earlier watcher left open is
    taken over. Not for several threads.
    """

    def __init__(
        self,
        log_folder: str | os.PathLike[str],
        reference: Profile,
        *,
        window_rows: int = 200,
        columns: Collection[str] | None = None,
        version: str | None = None,
        since_row: int = 0,
        policy: AlertPolicy | None = None,
        false_alarm: float = FALSE_ALARM,
        store: Store | None = None,
    ) -> None:
        """Begin to watch.

        Args:
            log_folder: of one model, such as `.shoal/predictions/fashion`.
            reference: what traffic should look like, normally the profile in the model's package.
            window_rows: rows per comparison; smaller windows see sooner, larger ones see smaller shifts.
            columns: names to compare; all that both sides know by default.
            version: watch only what this version answered, such as "3".
            since_row: the log's row to begin with.
            policy: when drift becomes an alert.
            false_alarm: the probability that one window of clean traffic counts as drifted.
            store: where alerts are recorded.

        Raises:
            NotFoundError: there is no log in the folder.
            InputError: a column is named that the log drops, or it drops all there is.
        """
        if window_rows < 1:
            raise ConfigError(f"window_rows={window_rows} must be >= 1", next_step="leave it out for 200")
        self._traffic = Traffic(log_folder)
        _check_logged(self._traffic, columns)
        self._reference = reference
        self._window_rows = window_rows
        self._columns = columns
        self._version = version
        self._policy = policy or AlertPolicy()
        self._false_alarm = false_alarm
        self._store = store
        self._open_alert = self._find_open_alert()
        self._state = AlertState(is_raised=self._open_alert is not None)
        self._next_row = since_row
        self._num_windows = 0

    @property
    def is_raised(self) -> bool:
        """Whether an alert stands."""
        return self._state.is_raised

    @property
    def next_row(self) -> int:
        """The log's first row that no window has covered yet; a later watcher can begin there."""
        return self._next_row

    def windows(self, until_row: int | None = None) -> Iterator[Window]:
        """Yield the full windows that the log holds by now, oldest first; rows that fill none wait for the next call.

        Each window is judged, and its alert recorded, before it is yielded.
        """
        pending, versions = Profile(), Counter[str]()
        first_row = self._next_row
        for rows, batch in self._traffic.read(self._next_row, until_row, version=self._version):
            done = 0
            while done < batch.num_rows:
                part = batch.slice(done, self._window_rows - pending.num_rows)
                if pending.num_rows == 0:
                    first_row = int(rows[done])
                pending.update(self._traffic.profile_columns(part))
                versions.update(part.column("version").to_pylist())
                done += part.num_rows
                if pending.num_rows == self._window_rows:
                    self._next_row = int(rows[done - 1]) + 1
                    yield self._judge(range(first_row, self._next_row), versions, pending)
                    pending, versions = Profile(), Counter[str]()

    def _judge(self, rows: range, versions: Mapping[str, int], profile: Profile) -> Window:
        report = compare(self._reference, profile, false_alarm=self._false_alarm, columns=self._columns)
        self._state, actions = decide(self._state, report, self._policy)
        window = Window(
            index=self._num_windows,
            rows=rows,
            versions=dict(versions),
            profile=profile,
            report=report,
            actions=actions,
            is_raised=self._state.is_raised,
            alert=self._record(actions, rows, report),
            not_logged=self._traffic.dropped,
            sample=self._traffic.sample,
        )
        self._num_windows += 1
        return window

    def _record(self, actions: tuple[Action, ...], rows: range, report: DriftReport) -> Alert | None:
        if self._store is None:
            return None
        if "raise" in actions:
            self._open_alert = self._store.alerts.record(ALERT_KIND, self._traffic.model, self._fields(rows, report))
            return self._open_alert
        if "clear" in actions and self._open_alert is not None:
            closed = self._store.alerts.close(self._open_alert.id)
            self._open_alert = None
            return closed
        return None

    def _fields(self, rows: range, report: DriftReport) -> dict[str, Json]:
        return {
            "log": str(self._traffic.folder),
            "first_row": rows.start,
            "last_row": rows.stop - 1,
            "version": self._version,
            "columns": [
                {
                    "column": drift.column,
                    "measure": drift.measure,
                    "distance": drift.distance,
                    "threshold": drift.threshold,
                }
                for drift in report.columns
                if drift.drifted
            ],
        }

    def _find_open_alert(self) -> Alert | None:
        if self._store is None:
            return None
        for alert in self._store.alerts.list(self._traffic.model):
            if alert.kind == ALERT_KIND and alert.closed is None and alert.fields.get("version") == self._version:
                return alert
        return None


def _check_logged(traffic: Traffic, columns: Collection[str] | None) -> None:
    # What is derived from a column is named after it: "image.mean".
    missing = [name for name in columns or () if name.partition(".")[0] in traffic.dropped]
    if missing or not (traffic.inputs or traffic.outputs):
        raise InputError(
            f"cannot watch {', '.join(missing) or 'anything'} of {traffic.model!r}: the log in {traffic.folder} drops "
            f"{', '.join(traffic.dropped)} by its rule",
            next_step="watch other columns, or serve with a log_drop that leaves these in",
        )

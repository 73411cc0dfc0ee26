"""The whole story, twice, in an empty folder: what a newcomer waits for, and the figures that must hold."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bars import bar, report


def main() -> None:
    """Run the demo twice and print the bars; `--quick` prints those of an earlier run in this folder's `.shoal`."""
    if "--quick" in sys.argv:
        first = second = json.loads(Path(".shoal/demo/summary.json").read_text())
    else:
        with tempfile.TemporaryDirectory() as folder:
            first, second = _run(folder), _run(folder)
    drift = second["drift"]
    lost, regained = (
        drift["accuracy_before"] - drift["accuracy_during"],
        drift["accuracy_after"] - drift["accuracy_during"],
    )
    failed = sum(
        run["serving"]["failed_after_kill"] + run["canary_failed_requests"] + run["rollback_failed_requests"]
        for run in (first, second)
    )
    report(
        "demo",
        [
            bar("first demo", first["total_s"], "s", 240, {}),
            bar("second demo", second["total_s"], "s", 60, {}),
            bar(
                "test accuracy",
                first["test_accuracy"],
                "share",
                0.90,
                {"linear": first["baseline_accuracy"]},
                at_most=False,
            ),
            bar("failed requests at kill, canary, swap, rollback", failed, "requests", 0, {}),
            bar("false alerts in 50 clean windows or more", drift["false_alerts"], "alerts", 0, {}),
            bar("windows to the alert", drift["windows_to_alert"], "windows", 6, {}),
            bar("share of the lost accuracy regained", regained / lost, "share", 0.5, {}, at_most=False),
        ],
        packages=["torch", "onnxruntime", "pyarrow"],
        command="make bench NAME=demo",
    )


def _run(folder: str) -> dict:
    command = [str(Path(sys.executable).with_name("shoal")), "demo", "--json"]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()

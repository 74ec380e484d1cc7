"""Run nightly.sh as an Airflow 3 DAG, and start it again only after the exit code 75.

The settings of nightly.sh come from the worker's environment, and the night from the DAG run.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import cached_property

import pendulum
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

NIGHTLY = os.environ.get("TAGGER_NIGHTLY", "/opt/tagger/jobs/nightly.sh")


class Nightly(BaseOperator):
    """Run nightly.sh; a failed gate ends the night, a stop is retried, whereas BashOperator treats all exit codes alike."""

    @cached_property
    def hook(self) -> SubprocessHook:
        return SubprocessHook()

    def execute(self, context: Context) -> None:
        night = context["dag_run"].run_after.strftime("%F")
        code = self.hook.run_command([NIGHTLY], env={**os.environ, "NIGHT": night}).exit_code
        if code == 75:
            raise AirflowException("stopped; started again while there are retries")
        if code:
            raise AirflowFailException(f"nightly.sh ended with {code}; another start would not help")

    def on_kill(self) -> None:
        self.hook.send_sigterm()


with DAG(
    "tagger",
    schedule="30 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
):
    Nightly(task_id="nightly", retries=4, retry_delay=timedelta(minutes=10), execution_timeout=timedelta(hours=5))

"""The Lambda functions of the template, each with a small pool of execution environments.

A function's environment is what Lambda gives it and nothing of this machine's: the template's
variables, the runtime's own, and real temporary credentials of the execution role, which are
replaced, with the environment that holds them, an hour before they end. That role must trust
Lambda, or nothing starts; without its logs: permissions what a function writes is lost. Where
Lambda would start another environment, an invocation here waits for a free one.
"""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from localcloud.aws.authorization import DeniedError, Question, authorize
from localcloud.aws.runtime import Outcome, Worker, emulator
from localcloud.aws.service_roles import LAMBDA, may_take_on
from localcloud.aws.template import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from localcloud.aws.accounts import AccessKey, Accounts
    from localcloud.aws.template import Function, Template

WORKERS = 2
_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
# Lambda renews a function's credentials within twelve hours.
_CREDENTIAL_SECONDS = 12 * 3600
_RENEWED_BEFORE = 3600


class Functions:
    """Every function of a template, running.

    Args:
        template: what to run.
        accounts: who issues the execution role's credentials.
        root: the directory that holds the handlers.
        log_directory: where each function's output goes, to `lambda-NAME.log`.
        environment: variables beside Lambda's own, such as HTTPS_PROXY.
        workers: execution environments per function.

    """

    def __init__(
        self,
        template: Template,
        accounts: Accounts,
        *,
        root: Path,
        log_directory: Path,
        environment: Mapping[str, str],
        workers: int = WORKERS,
    ) -> None:
        self.template = template
        self._accounts = accounts
        self._root = root.resolve()
        self._logs = log_directory
        self._extra = dict(environment)
        self._count = workers
        # Seconds before each further try of an asynchronous invocation that failed.
        # https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
        self.retry_seconds = (60.0, 120.0)
        # By worker: when its credentials end, in epoch seconds.
        self._ends: dict[Worker, float] = {}
        self._stopped = threading.Event()
        self._idle: dict[str, queue.LifoQueue[Worker]] = {}
        self._running = ExitStack()

    def start(self) -> Functions:
        """Start every worker.

        Raises RuntimeMissingError when the emulator is not installed, and TemplateError when Lambda
        may not take on an execution role, as a deployment would fail.
        """
        binary = emulator()
        try:
            for function in self.template.functions:
                # Last in, first out, as Lambda prefers a warm environment.
                self._idle[function.arn] = queue.LifoQueue()
                for _ in range(self._count):
                    self._idle[function.arn].put(self._worker(function, binary))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every worker."""
        self._stopped.set()
        self._running.close()

    def log(self, function: Function) -> Path:
        """Where a function's output goes."""
        return self._logs / f"lambda-{function.name}.log"

    def find(self, name: str) -> Function | None:
        """The function of this name."""
        return next((f for f in self.template.functions if f.name == name), None)

    def invoke(
        self, function: Function, payload: bytes, *, qualifier: str = "", client_context: str = ""
    ) -> Outcome:
        """Run a function once; `qualifier` is the alias, which the invoked ARN then names."""
        arn = f"{function.arn}:{qualifier}" if qualifier else function.arn
        idle = self._idle[function.arn]
        worker = idle.get()
        try:
            self._renew(function, worker)
            return worker.invoke(payload, arn, client_context)
        finally:
            idle.put(worker)

    def invoke_later(self, function: Function, payload: bytes, *, qualifier: str = "") -> None:
        """Run a function once soon, and up to two more times if it fails."""

        def run() -> None:
            for delay in (0.0, *self.retry_seconds):
                if self._stopped.wait(delay):
                    return
                if not self.invoke(function, payload, qualifier=qualifier).failed:
                    return

        threading.Thread(target=run, name=f"event-{function.name}", daemon=True).start()

    def _renew(self, function: Function, worker: Worker) -> None:
        """Start the environment anew if its credentials are near their end."""
        now = self._accounts.clock()
        if now >= self._ends[worker] - _RENEWED_BEFORE:
            key = self._assumed(function)
            self._ends[worker] = now + _CREDENTIAL_SECONDS
            worker.restart(key.environment())

    def _worker(self, function: Function, binary: Path) -> Worker:
        now, key = self._accounts.clock(), self._assumed(function)
        worker = Worker(
            binary,
            function.handler,
            root=self._root,
            environment={**self._environment(function), **self._extra, **key.environment()},
            log=self.log(function) if self._may_log(function, key) else None,
            timeout=function.timeout,
        )
        self._running.callback(worker.stop)
        worker.start()
        self._ends[worker] = now + _CREDENTIAL_SECONDS
        return worker

    def _assumed(self, function: Function) -> AccessKey:
        """A session of the execution role, if that trusts Lambda; raises TemplateError."""
        if not may_take_on(self._accounts, LAMBDA, function.role):
            text = "The role defined for the function cannot be assumed by Lambda."
            raise TemplateError(f"{function.logical_id}: {text}")
        return self._accounts.issue(function.role, function.name, seconds=_CREDENTIAL_SECONDS)

    def _may_log(self, function: Function, key: AccessKey) -> bool:
        aws = self._accounts.aws
        group = f"arn:aws:logs:{aws.region}:{aws.account}:log-group:/aws/lambda/{function.name}"
        try:
            for action in _LOGS:
                stream = "" if action == "logs:CreateLogGroup" else ":log-stream:$LATEST"
                authorize(self._accounts, key, Question(action, f"{group}{stream}"))
        except DeniedError:
            return False
        return True

    def _environment(self, function: Function) -> dict[str, str]:
        region = self._accounts.aws.region
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": str(self._root),
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function.timeout),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_STREAM_NAME": "$LATEST",
            **function.environment,
        }

"""Runs on a cluster, from outside: submit, cancel, schedule. Each may be repeated, by anyone, at any time.

submit(project, api, pipeline=…, settings=…) -> Submitted     one KFP run per run, or attach to it
cancel(run, api)                                              the controller, then its children, until none is left
schedule(project, api, name=…, cron=read_cron(…), …)          one recurring run of a name; schedules, pause, resume, remove
read_pipeline(yaml), settings_of(pipeline)                    what a compiled pipeline takes, and all that may be set
access_manifests(AccessSettings(…))                           accounts and rights of the pods
stage_job, train_job, sandbox_pod                             a stage as a Job or a TrainJob, generated code in a pod
"""

from optimas_core.deploy._access import AccessSettings, access_manifests
from optimas_core.deploy._cancel import Canceled, cancel
from optimas_core.deploy._compiled import CompiledPipeline, fitting, parsed_settings, read_pipeline
from optimas_core.deploy._cron import Cron, read_cron
from optimas_core.deploy._parameters import Setting, Target, parameters_of, settings_of
from optimas_core.deploy._pods import JobSettings, sandbox_pod, stage_command, stage_job
from optimas_core.deploy._record import Attempt, Submission, read_submission
from optimas_core.deploy._schedule import Scheduled, pause, remove, resume, schedule, schedules, set_schedule
from optimas_core.deploy._submit import Submitted, follow, submit, submit_run
from optimas_core.deploy._train_job import TrainJobSettings, train_job

__all__ = [
    "AccessSettings",
    "Attempt",
    "Canceled",
    "CompiledPipeline",
    "Cron",
    "JobSettings",
    "Scheduled",
    "Setting",
    "Submission",
    "Submitted",
    "Target",
    "TrainJobSettings",
    "access_manifests",
    "cancel",
    "fitting",
    "follow",
    "parameters_of",
    "parsed_settings",
    "pause",
    "read_cron",
    "read_pipeline",
    "read_submission",
    "remove",
    "resume",
    "sandbox_pod",
    "schedule",
    "schedules",
    "set_schedule",
    "settings_of",
    "stage_command",
    "stage_job",
    "submit",
    "submit_run",
    "train_job",
]

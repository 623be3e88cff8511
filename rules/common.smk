# The checked configuration, and what every shell command begins with.
import os
import shlex
import sys

from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

sys.path.insert(0, workflow.basedir)

from vireo import config as cfg  # noqa: E402
from vireo.errors import VireoError  # noqa: E402
from vireo.workflow import cleanup  # noqa: E402
from vireo.workflow.plan import Plan  # noqa: E402

# The --configfile files are read again by our loader, which refuses duplicate keys; what
# Snakemake itself merged (with --config) comes on top.
os.environ.pop("VIREO_CONFIG", None)
if not workflow.remote_exec:
    cleanup.remove_stale_temp()
    cleanup.quarantine_damaged()
    cleanup.quarantine_changed()
    cleanup.quarantine_misplaced()
try:
    config = cfg.load(workflow.config_settings.configfiles or [], dict(config))
    RESOLVED = cfg.write_resolved(config)
except VireoError as error:
    raise WorkflowError(str(error)) from None

# `--jobs` is set for executors that submit jobs; REMOTE is Snakemake inside of such a job.
SUBMITS = workflow.resource_settings.nodes is not None and not workflow.remote_exec
ON_CLUSTER = workflow.remote_exec or SUBMITS
if SUBMITS and ExecutorPluginRegistry().is_installed("slurm"):
    from vireo.workflow import slurm_executor

    slurm_executor.install(ExecutorPluginRegistry(), logger)
# A scheduler ends a job at its time limit, which training has to know.
JOB_LIMIT = " --minutes {resources.runtime}" if workflow.remote_exec else ""
plan = Plan(config, workflow.basedir, cluster=ON_CLUSTER)

# Names of the corpora whose clips rule clips makes; what lies in the user's own folder is fetched.
CUT = plan.cut_corpora()

# Jobs run the launcher's Python unless a conda, module or container environment brings its own;
# PYTHONPATH makes `import vireo` work from any working directory.
OWN_ENVIRONMENT = workflow.deployment_settings.deployment_method
LAUNCHER = shlex.quote(str(Path(sys.executable).parent))
shell.prefix(
    "set -euo pipefail; "
    f"export VIREO_HOME={shlex.quote(str(workflow.basedir))} "
    f"PYTHONPATH={shlex.quote(str(workflow.basedir))} "
    f"VIREO_CONFIG={shlex.quote(str(RESOLVED))}; "
    + ("" if OWN_ENVIRONMENT else f"export PATH={LAUNCHER}:$PATH; ")
    # Threads that spin while they wait cost more than half of the speed when cores are shared
    # (toy training with 2 threads beside another process: 0.4 steps/s, waiting quietly 1.05).
    + 'export OMP_WAIT_POLICY="${{OMP_WAIT_POLICY:-PASSIVE}}"; '
    # What a scheduler gave to a job is the job's alone: no lock is taken on it.
    + ("export VIREO_TRUST_DEVICES=1; " if workflow.remote_exec else "")
)


wildcard_constraints:
    artifact=r"[^/]+",
    benchmark=r"[^/]+",
    model=r"[^/]+",
    recipe=r"[^/]+",
    run=r"[^/]+",
    split=r"[^/]+",
    shard=r"\d+-of-\d+",

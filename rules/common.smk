# The checked configuration, and what every shell command begins with.
import os
import shlex
import sys

from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

# A checkout brings its package; rules that are read from elsewhere (an installed Vireo, a hosting
# service) take the one that is installed.
CHECKOUT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
if (CHECKOUT / "vireo/__init__.py").is_file():
    sys.path.insert(0, str(CHECKOUT))
try:
    from vireo import config as cfg
except ModuleNotFoundError as error:
    raise WorkflowError(
        f"Vireo's rules need its Python package ({error}): `pip install` a checkout of the same "
        "version into the environment of snakemake"
    ) from None
from vireo.errors import VireoError
from vireo.workflow import cleanup, environment
from vireo.workflow.plan import Plan

# Whether another workflow uses these rules as a module; its `config:` is then all that it says.
MODULE = not workflow.modifier.is_main_snakefile()
if workflow.modifier.modify_path("results/x.json") != "results/x.json":
    raise WorkflowError(
        "Vireo's module takes no `prefix:` (its files name each other): use `workdir:` or "
        "`snakemake --directory`"
    )

os.environ.pop("VIREO_CONFIG", None)
if not workflow.remote_exec:
    cleanup.remove_stale_temp()
    cleanup.quarantine_damaged()
    cleanup.quarantine_changed()
    cleanup.quarantine_misplaced()
try:
    # The --configfile files are read again by our loader, which refuses duplicate keys; what
    # Snakemake itself merged (with --config) comes on top.
    files = [] if MODULE else workflow.config_settings.configfiles or []
    config = cfg.load(files, dict(config), module=MODULE)
    RESOLVED = cfg.write_resolved(config)
except VireoError as error:
    raise WorkflowError(str(error)) from None

# `--jobs` is set for executors that submit jobs; REMOTE is Snakemake inside of such a job.
SUBMITS = workflow.resource_settings.nodes is not None and not workflow.remote_exec
ON_CLUSTER = workflow.remote_exec or SUBMITS
if SUBMITS and ExecutorPluginRegistry().is_installed("slurm"):
    from vireo.workflow import slurm_executor

    slurm_executor.install(ExecutorPluginRegistry(), logger)
plan = Plan(config, cfg.HOME, cluster=ON_CLUSTER)

# Names of the corpora whose clips rule clips makes; what lies in the user's own folder is fetched.
CUT = plan.cut_corpora()

# Jobs run the launcher's Python unless a conda, module or container environment brings its own.
OWN_ENVIRONMENT = workflow.deployment_settings.deployment_method
ENVIRONMENT = environment.commands(
    RESOLVED,
    None if OWN_ENVIRONMENT else Path(sys.executable).parent,
    trust_devices=workflow.remote_exec,
)


# Snakemake does not make jobs run again when parameters of functions of `input` or `resources` change.
def job_environment(wildcards, input):
    """What each shell command begins with."""
    return ENVIRONMENT


def job_limit(wildcards, resources):
    """A scheduler ends a job at its time limit, which training has to know."""
    return f"--minutes {resources.runtime}" if workflow.remote_exec else ""


wildcard_constraints:
    artifact=r"[^/]+",
    benchmark=r"[^/]+",
    model=r"[^/]+",
    recipe=r"[^/]+",
    run=r"[^/]+",
    split=r"[^/]+",
    shard=r"\d+-of-\d+",

"""What the rules ask: which files a job needs and what makes it run again.

Methods take Snakemake's wildcards (any object with the named attributes) and give paths relative to
the working directory, or short hashes of everything that changes a job's outcome. Unknown names
raise VireoError with near names.
"""

import errno
import os
import re
from functools import partial
from pathlib import Path
from typing import Any

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.fetch.receipt import located
from vireo.inference import cache_key, weights
from vireo.results import papers
from vireo.utils.files import digest, read_sealed_json
from vireo.utils.gpus import visible_gpus
from vireo.workflow.resources import Resources

INVENTORY = "paths of the project are relative"  # what an inventory holds, apart from the tree


class Plan:
    """The configuration seen from the rules."""

    def __init__(self, config: cfg.Config, home: str | Path, cluster: bool = False) -> None:
        self.config, self.home, self.cluster = config, Path(home), cluster
        self.resources = Resources(config)

    # names -> files

    def receipt(self, artifact: str) -> str:
        """Where rule fetch (or toy) says what it got and where it lies."""
        return weights.receipt_path(artifact)

    def trained(self, recipe: str) -> str:
        """Weights that a recipe yields."""
        return weights.trained_path(recipe)

    def source_receipts(self, wc: Any) -> dict[str, str]:
        """Role -> receipt of a benchmark's data."""
        sources = cfg.benchmark(self.config, wc.benchmark)["sources"]
        return {role: self.receipt(artifact) for role, artifact in sources.items()}

    def weights(self, model: str) -> str:
        """The file that holds or points to a model's weights; "" for an untrained model."""
        return weights.weights_source(self.config, model)

    def shards(self, model: str, benchmark: str, split: str) -> list[str]:
        """Names of the inference jobs of one split."""
        count = self.config["shards"]
        if count is None and self.cluster:
            count = self.resources.shards(model, benchmark, split)
        count = count or visible_gpus() or 1
        return [f"{i}-of-{count}" for i in range(1, count + 1)]

    def run(self, wc: Any) -> tuple[str, list[str]]:
        """Benchmark and splits that `results/{model}/{run}.json` stands for."""
        model = cfg.model(self.config, wc.model)
        benchmark, splits = cfg.resolve_run(self.config, wc.run)
        needs = cfg.benchmark(self.config, benchmark)["needs"]
        if needs not in model["fulfils"]:
            raise VireoError(
                f"results/{wc.model}/{wc.run}.json: {benchmark} needs a {needs}, "
                f"{wc.model} is a {' and '.join(model['fulfils'])}"
            )
        return benchmark, splits

    # inputs of rules

    def infer_input(self, wc: Any) -> dict[str, str]:
        """Files of one inference job."""
        folder = f"cache/shards/{wc.model}/{wc.benchmark}/{wc.split}"
        frames = {"frames": f"{folder}/{wc.shard}.frames.json"}
        return self._infer_files(wc) | (frames if self._stored(wc.model, wc.benchmark) else {})

    def control_input(self, wc: Any) -> dict[str, Any]:
        """Files of the job that runs all controls of a benchmark on one model."""
        needs: dict[str, Any] = self._infer_files(wc)
        if self._stored(wc.model, wc.benchmark):
            splits = cfg.benchmark(self.config, wc.benchmark)["splits"]
            files = self._shard_files(wc.model, wc.benchmark, splits)
            needs["frames"] = [file.replace(".parquet", ".frames.json") for file in files]
        return needs

    def _infer_files(self, wc: Any) -> dict[str, str]:
        needs = {
            "entries": f"cache/items/{wc.benchmark}.parquet",
            "videos": f"cache/items/{wc.benchmark}.videos.parquet",
        }
        if source := self.weights(wc.model):
            needs["weights"] = source
            if other := cfg.model(self.config, wc.model).get("wiseft"):
                needs["wiseft"] = self.receipt(other["with"])
        for role, entry in (cfg.model(self.config, wc.model).get("files") or {}).items():
            needs[f"file_{role}"] = self.receipt(entry["artifact"])
        return needs

    def scans_input(self, wc: Any) -> dict[str, str]:
        """Annotations, which name the scenes, and the folder of scans (none: downloaded)."""
        block = cfg.benchmark(self.config, wc.benchmark)
        options = block.get("options") or {}
        if "scans" not in options and "download" not in options:
            raise VireoError(
                f"benchmark {wc.benchmark}: no `options: {{scans: ARTIFACT}}` names its scans"
            )
        needs = {"questions": self.receipt(block["sources"]["questions"])}
        if "download" not in options:
            needs["scans"] = self.receipt(options["scans"])
        return needs

    def score_input(self, wc: Any) -> dict[str, Any]:
        """Items, every shard of every split, and those of the controls."""
        benchmark, splits = self.run(wc)
        needs: dict[str, Any] = {
            "entries": f"cache/items/{benchmark}.parquet",
            "videos": f"cache/items/{benchmark}.videos.parquet",
            "predictions": self._shard_files(wc.model, benchmark, splits),
        }
        if cfg.benchmark(self.config, benchmark).get("controls"):
            needs["controls"] = f"cache/shards/{wc.model}/{benchmark}/controls.json"
        if source := self.weights(wc.model):
            needs["weights"] = source
        return needs

    def train_input(self, wc: Any) -> list[str]:
        """Receipts of a recipe's data and the weights it starts from."""
        block = cfg.recipe(self.config, wc.recipe)
        needs = [self.receipt(artifact) for artifact in block.get("sources", {}).values()]
        needs += [self.receipt(entry["artifact"]) for entry in block.get("files", {}).values()]
        init = block.get("init") or {}
        if "artifact" in init:
            needs.append(self.receipt(init["artifact"]))
        if "recipe" in init:
            needs.append(self.trained(init["recipe"]))
        return needs

    def wanted_results(self) -> list[str]:
        """Results of the runs that the configuration names."""
        return [f"results/{run}.json" for run in self.config["runs"]]

    def papers(self) -> list[str]:
        """Names of all papers with published numbers."""
        return papers.names(self.config)

    def paper_inputs(self, wc: Any) -> list[str]:
        """Results of a paper's rows that can be had (never by training unless `train: true`).

        With `partial_papers: true` only those that stand there already.
        """
        wanted = papers.results(self.config, wc.paper)
        if self.config["partial_papers"]:
            return [path for path in wanted if Path(path).exists()]
        return wanted

    def paper_key(self, wc: Any) -> str:
        """What changes a paper's page apart from the results: the numbers published in it."""
        rows = papers.rows(self.config, wc.paper)
        return digest(
            [[row.table, row.model, row.benchmark, row.numbers, row.reason] for row in rows]
        )

    def paper_listing(self, paper: str) -> str:
        """All rows of a paper for people, as a rule's message (which Snakemake formats)."""
        return papers.listing(self.config, paper).replace("{", "{{").replace("}", "}}")

    def other_results(self, wc: Any = None) -> list[str]:
        """Results that stand there already: reported too, but never a reason to run anything."""
        wanted = set(self.wanted_results())
        found = [path.as_posix() for path in Path("results").glob("*/*.json")]
        return sorted(path for path in found if path not in wanted)

    def _shard_files(self, model: str, benchmark: str, splits: list[str]) -> list[str]:
        folder = f"cache/shards/{model}/{benchmark}"
        return [
            f"{folder}/{split}/{shard}.parquet"
            for split in splits
            for shard in self.shards(model, benchmark, split)
        ]

    def _stored(self, model: str, benchmark: str) -> bool:
        frames = cfg.protocol(self.config, model, benchmark).get("frames", {})
        return bool(frames.get("store"))

    def cut_corpora(self) -> str:
        """Regular expression of the X whose X_clips is cut out of X_videos by X_list."""
        known, own = self.config["artifacts"], self.config["paths"]
        names = (name.removesuffix("_clips") for name in known if name.endswith("_clips"))
        found = [
            re.escape(name)
            for name in names
            if f"{name}_list" in known and f"{name}_videos" in known and f"{name}_clips" not in own
        ]
        return "|".join(found) or "(?!)"

    # command-line arguments

    def splits(self, wc: Any) -> list[str]:
        """All splits of a benchmark."""
        return list(cfg.benchmark(self.config, wc.benchmark)["splits"])

    def controls(self, wc: Any) -> list[str]:
        """Names of a benchmark's controls."""
        return list(cfg.benchmark(self.config, wc.benchmark).get("controls", []))

    def source_arguments(self, wc: Any) -> list[str]:
        """`role=receipt` for rule prepare."""
        return [f"{role}={path}" for role, path in self.source_receipts(wc).items()]

    # what makes a job run again

    def artifact_key(self, wc: Any) -> str:
        """Sources, files and the user's own path of an artifact."""
        block = cfg.artifact(self.config, wc.artifact)
        wanted = {key: block.get(key) for key in ("sources", "files", "extract", "accept")}
        return digest([wanted, self.config["paths"].get(wc.artifact)])

    def items_key(self, wc: Any) -> str:
        """Keys of a benchmark block that change its items."""
        block = cfg.benchmark(self.config, wc.benchmark)
        keys = ("module", "version", "rows", "partial", "options", "splits")
        return digest([block.get(key) for key in keys])

    def tree_key(self, wc: Any) -> str:
        """Changes when any file below the data folders changes, so that repaired data counts.

        Takes no `input`: Snakemake does not look at the values of functions that do. Raises
        FileNotFoundError while a receipt is missing: Snakemake then asks again later.
        """
        from vireo.media.inventory import fingerprint

        marks = []
        for artifact in cfg.benchmark(self.config, wc.benchmark)["sources"].values():
            # The user's folder of now: the receipt may be damaged, or name that of the last run.
            own = self.config["paths"].get(artifact)
            if own is None or not (root := Path(own).expanduser()).is_dir():
                receipt = Path(self.receipt(artifact))
                if not receipt.exists():
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(receipt))
                root = located(read_sealed_json(receipt, "receipt"))
            marks.append(fingerprint(root))
        return digest([*marks, INVENTORY])

    def scans_key(self, wc: Any) -> str:
        """What changes the videos made of scans, apart from the scans."""
        options = cfg.benchmark(self.config, wc.benchmark).get("options") or {}
        return digest([options.get("every"), options.get("scans"), "download" in options])

    def frames_key(self, wc: Any) -> str:
        """Frame rule and resize."""
        protocol = cfg.protocol(self.config, wc.model, wc.benchmark)
        return digest([protocol.get("frames"), protocol.get("resize")])

    def predictions_key(self, wc: Any) -> str:
        """What changes predictions: no batch size, device or shard."""
        described = cache_key.prediction_description(self.config, wc.model, wc.benchmark)
        return digest({**described, **self._kept()})

    def controls_key(self, wc: Any) -> str:
        """What changes the predictions of any of a benchmark's controls."""
        describe = partial(cache_key.prediction_description, self.config, wc.model, wc.benchmark)
        return digest([{**describe(control), **self._kept()} for control in self.controls(wc)])

    def _kept(self) -> dict[str, bool]:
        """What decides which predictions of the journal a shard holds, apart from their key."""
        left_out = not self.config.get("keep_predictions_of_absent_videos", True)
        return {"of present videos": True} if left_out else {}

    def score_key(self, wc: Any) -> str:
        """What changes a result but not the predictions."""
        benchmark, _ = self.run(wc)
        keys = ("module", "title", "headline", "primary", "chance", "options", "note", "published")
        block, model = cfg.benchmark(self.config, benchmark), cfg.model(self.config, wc.model)
        published = (self.home / "config/published.tsv").read_text(encoding="utf-8")
        ours = [block.get(key) for key in keys]
        return digest([ours, [model.get("title"), model.get("published")], published])

    def recipe_key(self, wc: Any) -> str:
        """What changes a training run's outcome."""
        return digest(cfg.recipe_description(self.config, cfg.recipe(self.config, wc.recipe)))

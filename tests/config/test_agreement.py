"""What the configuration knows of files it does not import is what those files have."""

import inspect

import pytest

from vireo import config as cfg
from vireo.config import families, readers, tasks
from vireo.config.base import Block


def test_frame_rules_are_those_of_sampling() -> None:
    from vireo.media import sampling

    found = {}
    for name, rule in sampling.RULES.items():
        parameters = inspect.signature(rule).parameters.values()
        found[name] = {p.name: p.default for p in parameters if p.name not in sampling.GIVEN}
    assert found == readers.FRAME_RULES


def test_architectures_are_those_of_the_families() -> None:
    from vireo.models import viclip, viclip_classifier, videomamba
    from vireo.models.clipbert import module as clipbert_module
    from vireo.models.mmduet import module
    from vireo.nn import clip_teacher

    assert families.ClipBERT().model_dump() == clipbert_module.BASE
    assert families.MMDuet().model_dump() == module.FULL
    assert families.TeacherSizes().model_dump() == clip_teacher.B16
    for kind, required, defaults in (
        (families.ViCLIP, viclip.SIZES["L/14"], viclip.OPTIONAL),
        (families.ViCLIPClassifier, viclip_classifier.REQUIRED, viclip.OPTIONAL),
        (families.VideoMambaClassifier, videomamba.REQUIRED, videomamba.DEFAULTS),
    ):
        assert kind.defaults() == defaults
        assert set(kind.model_fields) == {*required, *defaults}


@pytest.mark.parametrize("task", sorted(tasks.DATA))
def test_sections_of_a_recipe_are_those_of_its_task(task) -> None:
    import importlib

    module = importlib.import_module(f"vireo.training.tasks.{task}")
    for section, kinds in (("DATA", tasks.DATA), ("MODEL", tasks.MODEL)):
        kind, defaults = kinds[task], getattr(module, section)
        assert set(kind.keys_known()) == set(defaults), section


def test_every_shipped_file_is_known() -> None:
    from vireo.config import checks

    assert set(families.ARCHS) == set(families.OPTIONS) == set(checks.modules("models"))
    assert set(tasks.DATA) == set(tasks.MODEL) == set(checks.modules("training/tasks"))
    assert set(readers.OPTIONS) == set(readers.PROMPTS) <= set(checks.modules("benchmarks"))
    used = {b.get("module", n) for n, b in cfg.load()["benchmarks"].items()}
    assert used == set(readers.OPTIONS)


def blocks(kind: type[Block] = Block) -> list[type[Block]]:
    return [each for sub in kind.__subclasses__() for each in (sub, *blocks(sub))]


def test_every_key_is_described() -> None:
    from vireo.config import settings

    assert settings.Settings in blocks()
    missing = [f"{b.__name__}.{n}" for b in blocks() for n, f in b.model_fields.items()
               if not f.description]  # fmt: skip
    assert not missing

"""An answer dictionary of SQA3D or ClipBERT -> what the rows of a classifier stand for."""

from pathlib import Path

from vireo.errors import VireoError
from vireo.utils.files import read_json


def read(path: str | Path) -> list[str]:
    """Answers by class number from `answer_dict.json` or `train_ans2label.json`.

    VireoError when the numbers are not 0 … n-1 once each, or the two halves of the file differ.
    """
    held = read_json(path, "answer dictionary")
    numbers = held[0] if isinstance(held, list) and held else held
    if not isinstance(numbers, dict) or not numbers:
        raise VireoError(f"{path}: not a dictionary of answers, {{answer: number, …}}")
    if not all(isinstance(number, int) for number in numbers.values()) or (
        sorted(numbers.values()) != list(range(len(numbers)))
    ):
        raise VireoError(f"{path}: the classes are not 0 to n-1, each once")
    if isinstance(held, list) and len(held) > 1:
        back = {str(number): answer for answer, number in numbers.items()}
        if held[1] != back:
            raise VireoError(f"{path}: its two dictionaries contradict each other")
    return sorted(numbers, key=numbers.__getitem__)

"""What rounds of judging and reflecting add to the own single shot, in the runs of configs/studies/smollm2.yaml.

    python docs/results/smollm2/rounds.py configs/studies/smollm2.yaml model=smollm2-135m-instruct.gguf

The same words as for the study, whose runs it reads. Points of accuracy, problem by problem; intervals of 95 %, seeds
and problems drawn anew, as in the study's own differences.
"""

import sys
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).parents[3]))
from spark_lib.study.plan import load_study, planned
from spark_lib.study.results import interval, outcomes

study, extra = load_study(sys.argv[1:])
found = outcomes(study, planned(study, extra))
print("| rounds | of | mean | 95 % interval | by seed |\n|---|---|---|---|---|")
for setting in dict.fromkeys(one.setting for one in found):
    runs = [one for one in found if one.setting == setting]
    for k in (1, 2):
        marks = [(run.marks[f"tts.{k}"], run.marks["tts.0"]) for run in runs]
        gained = 100 * (numpy.array([after for after, _ in marks], float) - numpy.array([shot for _, shot in marks]))
        low, high = interval(gained)
        by_seed = ", ".join(f"{row.mean():+.1f}" for row in gained)
        print(f"| {k} | {setting} | {gained.mean():+.1f} | {low:+.1f} to {high:+.1f} | {by_seed} |")

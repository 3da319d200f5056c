"""Run a study.    python -m spark_lib.study configs/studies/<name>.yaml [seeds=[21,22,23]] [jobs=2] [key=value ...]

Does what is missing, `jobs` runs at a time, and writes runs/study-<name>/report.md. A run that is there is not done
again, one that was killed goes on, one that fails is named and stops no other. plan.py says what a study file holds.
"""

import shlex

from spark_lib.config import ConfigError
from spark_lib.stopping import run_script
from spark_lib.study.plan import load_study, planned
from spark_lib.study.report import write_report
from spark_lib.study.runs import carry_out


def main(argv: list[str]) -> None:
    if not argv or {"-h", "--help"} & set(argv):
        print(__doc__)
        return
    study, extra = load_study(argv)
    failed = carry_out(study, planned(study, extra))
    folder = write_report(study, f"python -m spark_lib.study {shlex.join(argv)}", failed, extra)
    print((folder / "report.md").read_text(encoding="utf-8"))
    print(f"report: {folder}/report.md, {folder}/report.png")
    if failed:
        raise ConfigError(f"{len(failed)} of {len(planned(study, extra))} runs failed; what each said is in "
                          f"{folder}/*.log, and the same command tries them again")


if __name__ == "__main__":
    run_script(main)

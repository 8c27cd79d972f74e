# Starts equal workers, then renders every notebook headlessly with papermill, two side by side:
#
#   snakemake --cores all --config profile=smoke                                      after `python -m fpdlib work`
#   snakemake --cores all --config profile=laptop workers=2                           with two workers of one process each
#   snakemake --executor slurm --jobs 4 --config profile=paper workers=4 resources=gpu  as Slurm jobs (`make slurm` does it)
#
# Workers share a store on a common file system; any of them may be killed, and started again.
import sys
from pathlib import Path

PROFILE = config.get("profile", "smoke")
WORKERS = int(config.get("workers", 0))
SEEDS = f"--seeds {config['seeds']}" if "seeds" in config else ""
# Scales that leave networks out on purpose: a notebook about them ends where they would come.
PARTIAL = PROFILE in ("medium", "paper-short")
NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("[0-9][0-9]-*.ipynb"))


rule all:
    input:
        expand("build/{profile}/{name}.ipynb", profile=PROFILE, name=NOTEBOOKS),
        expand("build/{profile}/again.txt", profile=PROFILE),


rule worker:
    output:
        temp(touch("build/{profile}/worker-{number}")),
    params:
        python=sys.executable,
        seeds=SEEDS,
    threads: 1
    resources:
        mem_mb=4000,
        runtime=720,
        slurm_extra="--gres=gpu:1" if config.get("resources") == "gpu" else "",
    shell:
        "{params.python} -m fpdlib work --profile {wildcards.profile} {params.seeds} --workers 1"


# What a notebook shows was computed before; `make reproduce` has it compute nothing (FPD_COMPUTE=0).
rule notebook:
    input:
        notebook="notebooks/{name}.ipynb",
        code=sorted(str(path) for path in Path("fpdlib").rglob("*.py")),
        workers=expand("build/{profile}/worker-{number}", profile=PROFILE, number=range(WORKERS)),
    output:
        "build/{profile}/{name}.ipynb",
    params:
        python=sys.executable,
        seeds=f"-r seeds '{config['seeds']}'" if "seeds" in config else "",
        failed="build/{profile}/failed-{name}.ipynb",
        ended="grep -q NotComputed build/{profile}/failed-{name}.ipynb && mv build/{profile}/failed-{name}.ipynb "
        "build/{profile}/{name}.ipynb && echo '{name} ({profile}): ends at what this scale leaves out' && exit 0;"
        if PARTIAL
        else "",
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "rm -f {params.failed} && "
        "{{ {params.python} -m papermill --no-progress-bar --log-level WARNING {input.notebook} {output}.tmp.ipynb "
        "-p profile {wildcards.profile} {params.seeds} 2> {output}.log || {{ mv {output}.tmp.ipynb {params.failed}; {params.ended} "
        "cat {output}.log >&2; echo '{wildcards.name} failed; it is kept with its traceback: {params.failed}' >&2; exit 1; }}; }} && "
        "mv {output}.tmp.ipynb {output} && rm {output}.log && "
        "echo '{wildcards.name} ({wildcards.profile}): done'"


# Committed networks are attacked again, beside the notebooks. What came out otherwise is told, and an error, after all that follows.
rule again:
    output:
        "build/{profile}/again.txt",
    params:
        python=sys.executable,
    threads: 1
    priority: 1
    resources:
        mem_mb=3000,
        runtime=60,
    shell:
        "{params.python} -m fpdlib again --profile laptop > {output} 2>&1 || grep -q '^error' {output}"

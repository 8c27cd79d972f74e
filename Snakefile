# Runs every notebook headlessly with papermill: snakemake --cores all --config profile=smoke
# Networks and outcomes live in the store, so a notebook that is stopped and run again continues where it was.
import sys
from pathlib import Path

PROFILE = config.get("profile", "smoke")
NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("[0-9][0-9]-*.ipynb"))


rule all:
    input:
        expand("build/{profile}/{name}.ipynb", profile=PROFILE, name=NOTEBOOKS),


# Side by side: what they show was computed by `python -m fpdlib work` before; `make reproduce` has them compute nothing (FPD_COMPUTE=0).
rule notebook:
    input:
        notebook="notebooks/{name}.ipynb",
        code=sorted(str(path) for path in Path("fpdlib").rglob("*.py")),
    output:
        "build/{profile}/{name}.ipynb",
    params:
        python=sys.executable,
        results="results/{profile}/notebooks",
    threads: 1
    shell:
        "mkdir -p {params.results} && "
        "{params.python} -m papermill --no-progress-bar --log-level WARNING {input.notebook} {output}.tmp.ipynb -p profile {wildcards.profile} && "
        "mv {output}.tmp.ipynb {output} && cp {output} {params.results}/{wildcards.name}.ipynb && "
        "echo '{wildcards.name} ({wildcards.profile}): done'"

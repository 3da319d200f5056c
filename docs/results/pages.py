"""Put today's scripts and style into the committed pages of runs (docs/results/**/*.html), whose runs are not kept.

    python docs/results/pages.py
"""

import base64
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from spark_lib.view import page

HERE = Path(__file__).parent
ELEMENT = re.compile(r'<script type="([^"]+)" id="([^"]+)">(.*?)</script>', re.DOTALL)

for path in sorted(HERE.rglob("*.html")):
    found = {name: (kind, content) for kind, name, content in ELEMENT.findall(path.read_text(encoding="utf-8"))}
    data = json.loads(found.pop("data")[1])
    # Of these pages' runs the curves have every step, so what is derived from the log can be made of them.
    assert len(data["curves"]["step"]) < page.POINTS
    metrics = [{name: column[i] for name, column in data["curves"].items() if column[i] is not None}
               for i in range(len(data["curves"]["step"]))]
    data |= {"smooth": page.smoothed(metrics), "tokens": page.tokens_by_kind(metrics)}
    blobs = {name: base64.b64decode(content) for name, (kind, content) in found.items() if kind == "application/gzip"}
    assert len(blobs) == len(data["steps"])
    table = page.html_table(page.plain_rows(data["figures"]))
    page.write(path, page.assemble(page.SCRIPTS, f"Run {data['name']}", data, blobs, table))
    print(path.relative_to(HERE))

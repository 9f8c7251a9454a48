"""Many requests at once: a pipeline, a batch, a listing."""

import inmem
from inmem import calls

with inmem.Client() as client:
    run = client.run(client.runs.begin().info.id)
    with run.pipeline() as pipeline:
        tickets = [pipeline.add(calls.put(f"doc/{n:02}", n * n)) for n in range(10)]
    print(all(ticket.result().is_committed for ticket in tickets))
    done = run.batch().put("index", 10).incr("changes").delete("doc/00").commit()
    print([effect.kind for effect in done.effects])
    print([entry.value for entry in run.kv.scan_all("doc/", start="doc/07")])

#> True
#> ['put', 'incremented', 'deleted']
#> [49, 64, 81]

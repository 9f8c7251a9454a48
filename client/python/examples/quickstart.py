"""Keys and values, and what a write gives back."""

import inmem

with inmem.Client() as client:
    run = client.run(client.runs.begin(tags=["example"]).info.id)
    receipt = run.kv.put("plan", {"step": 1, "notes": ["look around", b"\x00\xff"], "cost": 1.0})
    print(receipt.level)
    print(run.kv.get("plan"))
    print(run.kv.get("nothing"), run.kv.get("nothing", "a default"))
    run.kv.put("answer", None)
    print(run.kv.get("answer"), run.kv.exists("answer"))
    run.end()
    print(run.status())

#> logged
#> {'step': 1, 'notes': ['look around', b'\x00\xff'], 'cost': 1.0}
#> MISSING a default
#> None True
#> completed

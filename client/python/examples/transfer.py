"""Move something from one key to another: all or nothing, tried again after a conflict."""

import inmem


def transfer(txn: inmem.Transaction) -> int:
    balance: int = txn.kv.get("a")
    if balance < 30:
        raise ValueError("not enough")
    txn.kv.put("a", balance - 30)
    txn.kv.put("b", txn.kv.get("b", 0) + 30)
    return balance - 30


with inmem.Client() as client:
    run = client.run(client.runs.begin().info.id)
    run.kv.put("a", 50)
    print(run.transact(transfer))
    try:
        run.transact(transfer)
    except ValueError as error:
        print(error)
    print(run.kv.get_many(["a", "b"]))

#> 20
#> not enough
#> [20, 30]

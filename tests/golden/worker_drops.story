# A worker drops with one running star and three queued, and is back before its lease ends: nothing is lost.
> 1 attach ada slots=1
    record worker ada joined, instance one, 1 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +a +b +c
    record c1 revision 2 by star:plan: +a +b +c
    effect to ada: edits accepted, revision 2
> 4 detach ada
> 4.5 attach ada slots=1 held=1
> 5 succeed 1 ada null
    record plan SUCCEEDED
    record a attempt 1 on ada, token 2
    effect to ada: acknowledged token 1
    effect to ada: run a attempt 1, token 2
> 6 succeed 2 ada 1
    record a SUCCEEDED 1
    record b attempt 1 on ada, token 3
    effect to ada: acknowledged token 2
    effect to ada: run b attempt 1, token 3
# Now it does not come back: its lease ends, what it ran goes to another worker, and its late result changes nothing.
> 7 detach ada
> 8 attach bob slots=1
    record worker bob joined, instance one, 1 slots
    record c attempt 1 on bob, token 4
    effect to bob: run c attempt 1, token 4
> 8 look c1
    RUNNING revision 2
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a SUCCEEDED 1 [1:ada:SUCCEEDED]
    b RUNNING [1:ada:None]
    c RUNNING [1:bob:None]
> 17.5 renew bob
> 18 time
    record b attempt 1 LOST: worker_lost, again at once
    record worker ada left: its lease ran out
> 19 attach ada slots=1 held=3
    record worker ada joined, instance one, 1 slots
    record b attempt 2 on ada, token 5
    effect to ada: stop token 3 (this attempt has ended)
    effect to ada: run b attempt 2, token 5
> 19.5 succeed 3 ada "late"
    effect to ada: acknowledged token 3
> 20 succeed 4 bob "b"
    record c SUCCEEDED "b"
    effect to bob: acknowledged token 4
> 21 succeed 5 ada "c"
    record b SUCCEEDED "c"
    record c1 SUCCEEDED
    effect to ada: acknowledged token 5
> 22 look c1
    SUCCEEDED revision 2
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a SUCCEEDED 1 [1:ada:SUCCEEDED]
    b SUCCEEDED "c" [1:ada:LOST 2:ada:SUCCEEDED]
    c SUCCEEDED "b" [1:bob:SUCCEEDED]

# A result counts only from the worker that holds the attempt, with the current fencing token; a second changes nothing.
> 1 attach ada
    record worker ada joined, instance one, 2 slots
> 1 attach bob
    record worker bob joined, instance one, 2 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 succeed 1 bob {"forged":true}
    effect to bob: acknowledged token 1
> 3 succeed 99 ada {"forged":true}
    effect to ada: acknowledged token 99
> 4 propose 1 ada +a
    record c1 revision 2 by star:plan: +a
    record a attempt 1 on bob, token 2
    effect to ada: edits accepted, revision 2
    effect to bob: run a attempt 1, token 2
> 5 succeed 1 ada null
    record plan SUCCEEDED
    effect to ada: acknowledged token 1
> 6 succeed 2 bob {"a":1}
    record a SUCCEEDED {"a": 1}
    record c1 SUCCEEDED
    effect to bob: acknowledged token 2
> 7 succeed 2 bob {"a":2}
    effect to bob: acknowledged token 2
> 8 stream 2 bob still here
    effect to bob: stop token 2 (this attempt has ended)
> 9 look c1
    SUCCEEDED revision 2
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a SUCCEEDED {"a": 1} [1:bob:SUCCEEDED]

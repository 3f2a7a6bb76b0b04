# Retries wait for their backoff and prefer another worker; time-outs hold the slot until the worker confirms.
> 1 attach ada slots=1
    record worker ada joined, instance one, 1 slots
> 1 attach bob slots=1
    record worker bob joined, instance one, 1 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +a
    record c1 revision 2 by star:plan: +a
    record a attempt 1 on bob, token 2
    effect to ada: edits accepted, revision 2
    effect to bob: run a attempt 1, token 2
> 4 succeed 1 ada null
    record plan SUCCEEDED
    effect to ada: acknowledged token 1
> 5 fail 2 bob retryable
    record a attempt 1 FAILED: boom, again at 6
    effect to bob: acknowledged token 2
> 5.5 look c1
    RUNNING revision 2
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a WAITING waits for the backoff after attempt 1, until 6.000 [1:bob:FAILED]
> 6 time
    record a attempt 2 on ada, token 3
    effect to ada: run a attempt 2, token 3
> 7 fail 3 ada retryable
    record a FAILED boom: it broke
    record c1 FAILED star a: it broke (boom)
    effect to ada: acknowledged token 3
> 8 look c1
    FAILED revision 2 star a: it broke (boom)
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a FAILED boom: it broke [1:bob:FAILED 2:ada:FAILED]
> 8 submit c2
    answer: c2 at revision 1
    record c2 accepted
    record c2 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 4
    effect to ada: run plan attempt 1, token 4
> 39 renew ada
> 39 renew bob
> 40 time
    record plan attempt 1 TIMED_OUT: start_to_close, again at 40.5, slot still held
    effect to ada: stop token 4 (it ran for longer than start_to_close_s)
> 41 look c2
    RUNNING revision 1
    plan WAITING waits for the backoff after attempt 1, until 40.500 [1:ada:TIMED_OUT]
> 42 stopped 4 ada
    record plan attempt 1 gives its slot back
    effect to ada: acknowledged token 4

# A and B run; D depends on B; an edit arrives after B ended; A ends before D starts: every completion is kept, in any order.
> 1 attach ada slots=3
    record worker ada joined, instance one, 3 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 3 propose 1 ada +a +b +d b->d
    record c1 revision 2 by star:plan: +a +b +d b->d
    record a attempt 1 on ada, token 2
    record b attempt 1 on ada, token 3
    effect to ada: edits accepted, revision 2
    effect to ada: run a attempt 1, token 2
    effect to ada: run b attempt 1, token 3
> 4 drain ada
    record worker ada drains
> 5 succeed 3 ada "b_is_here"
    record b SUCCEEDED "b_is_here"
    effect to ada: acknowledged token 3
> 6 edit c1 +e a->e d<b base=2
    answer: c1 at revision 3
    record c1 revision 3 by client:me: +e a->e d<x
> 7 succeed 2 ada "a_is_here"
    record a SUCCEEDED "a_is_here"
    effect to ada: acknowledged token 2
> 8 look c1
    RUNNING revision 3
    plan RUNNING [1:ada:None]
    a SUCCEEDED "a_is_here" [1:ada:SUCCEEDED]
    b SUCCEEDED "b_is_here" [1:ada:SUCCEEDED]
    d READY waits for a worker that takes stars: those that could run it are draining
    e READY waits for a worker that takes stars: those that could run it are draining
> 9 edit c1 +f b->a
    refused: star a: is SUCCEEDED and cannot be given other parents any more
> 9 edit c1 -b
    refused: star b: is SUCCEEDED and cannot be removed any more
> 9 edit c1 a<b
    refused: star a: is SUCCEEDED and cannot be given other inputs any more
> 9 edit c1 +g b->g base=2
    answer: c1 at revision 4
    record c1 revision 4 by client:me: +g b->g
> 10 edit c1 d->b
    refused: star b: is SUCCEEDED and cannot be given other parents any more
> 10 edit c1 +h d->h h->d
    refused: star d: a cycle: d -> h -> d
> 10 edit c1 ^d base=1
    refused: revision 1 is stale: it is 4 now and touched d
> 11 look c1
    RUNNING revision 4
    plan RUNNING [1:ada:None]
    a SUCCEEDED "a_is_here" [1:ada:SUCCEEDED]
    b SUCCEEDED "b_is_here" [1:ada:SUCCEEDED]
    d READY waits for a worker that takes stars: those that could run it are draining
    e READY waits for a worker that takes stars: those that could run it are draining
    g READY waits for a worker that takes stars: those that could run it are draining

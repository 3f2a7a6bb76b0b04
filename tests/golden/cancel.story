# Cancel in mid-run: what runs is told to stop and confirms, what is finished stays, nothing new starts, the slot comes back.
> 1 attach ada slots=2
    record worker ada joined, instance one, 2 slots
> 2 submit c1
    answer: c1 at revision 1
    record c1 accepted
    record c1 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 1
    effect to ada: run plan attempt 1, token 1
> 2 submit c2
    answer: c2 at revision 1
    record c2 accepted
    record c2 revision 1 by client:me: +plan
    record plan attempt 1 on ada, token 2
    effect to ada: run plan attempt 1, token 2
> 3 propose 1 ada +a +b a->b
    record c1 revision 2 by star:plan: +a +b a->b
    effect to ada: edits accepted, revision 2
> 4 succeed 1 ada null
    record plan SUCCEEDED
    record a attempt 1 on ada, token 3
    effect to ada: acknowledged token 1
    effect to ada: run a attempt 1, token 3
> 5 cancel c1
    answer: c1 at revision 2
    record a CANCELLED cancelled: the client asked, slot still held
    record b CANCELLED cancelled: the client asked
    record c1 CANCELLED the client asked
    effect to ada: stop token 3 (the client asked)
> 6 cancel c1
    answer: c1 at revision 2
> 7 look c1
    CANCELLED revision 2 the client asked
    plan SUCCEEDED [1:ada:SUCCEEDED]
    a CANCELLED cancelled: the client asked [1:ada:CANCELLED]
    b CANCELLED cancelled: the client asked
> 7 edit c1 +z
    answer: c1 at revision 3
    record c1 revision 3 by client:me: +z
> 8 succeed 3 ada "late"
    record a attempt 1 gives its slot back
    record z attempt 1 on ada, token 4
    effect to ada: acknowledged token 3
    effect to ada: run z attempt 1, token 4
> 9 look c2
    RUNNING revision 1
    plan RUNNING [1:ada:None]
> 10 succeed 2 ada null
    record plan SUCCEEDED
    record c2 SUCCEEDED
    effect to ada: acknowledged token 2
> 11 cancel c2
    refused: request 'c2' is SUCCEEDED: it has ended already
